"""Folders of unfinished work: removed when it ends, or by the next if it was killed."""

import subprocess
import sys
import threading

import pytest

from deconv.staging import staging_folder

HOLD = """
import sys
from pathlib import Path
from deconv.staging import staging_folder
with staging_folder(Path(sys.argv[1])) as folder:
    (folder / "data").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that works in a folder of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate()


def test_folder_is_removed_however_the_work_ends(tmp_path):
    with staging_folder(tmp_path / "new") as folder:
        (folder / "data").write_text("x")
    with pytest.raises(ValueError, match="broken"), staging_folder(tmp_path / "new"):
        raise ValueError("broken")
    assert list((tmp_path / "new").iterdir()) == []


def test_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_kept(tmp_path, holder):
    process, name = holder
    held = tmp_path / name
    with staging_folder(tmp_path):
        assert (held / "data").read_text() == "x"
    process.kill()
    process.wait()
    assert (held / "data").exists()
    with staging_folder(tmp_path) as folder:
        assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_other_files_and_folders_stay(tmp_path):
    (tmp_path / ".deconv-other").mkdir()
    (tmp_path / "out.h5ad").write_text("x")
    with staging_folder(tmp_path):
        pass
    assert {p.name for p in tmp_path.iterdir()} == {".deconv-other", "out.h5ad"}


def test_many_at_once_do_not_take_each_others_folders(tmp_path):
    lost = []

    def work(name):
        for _ in range(40):
            with staging_folder(tmp_path) as folder:
                (folder / "data").write_text(name)
                if (folder / "data").read_text() != name:
                    lost.append(folder)

    def guarded(name):
        try:
            work(name)
        except OSError as error:
            lost.append(error)

    threads = [threading.Thread(target=guarded, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert list(tmp_path.iterdir()) == []
