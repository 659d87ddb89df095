"""The local record of a run: append-only, checked line by line, torn lines are dropped."""

import json
import math
import subprocess

import pytest

from deconv.errors import DeconvError, InputError
from experiments.spool import SPOOL, Spool, read_spool


@pytest.fixture
def path(tmp_path):
    return tmp_path / SPOOL


def begun(path, **options):
    spool = Spool(path, **options)
    if not spool.entries:
        spool.append("run", version=1)
    return spool


def test_lines_survive_and_are_json_with_numbers_from_1(path):
    spool = begun(path)
    spool.append("metrics", step=1, metrics={"a": 0.1})
    spool.append("file", path="f", sha256="0")
    again = Spool(path)
    assert again.entries == spool.entries == list(read_spool(path))
    assert again.points == {1: {"a": 0.1}}
    assert again.last("file", "f") == spool.entries[2]
    assert again.last("metrics", 2) is None
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 3]


def test_line_cut_off_by_a_crash_is_dropped_at_any_length(path):
    spool = begun(path)
    whole = path.stat().st_size
    spool.append("metrics", step=1, metrics={"a": 0.2})
    content = path.read_bytes()
    for length in range(whole, len(content)):
        path.write_bytes(content[:length])
        assert len(list(read_spool(path))) == 1
        told = []
        resumed = Spool(path, say=told.append)
        assert len(told) == (length > whole)
        assert all("a line that a crash cut off" in message for message in told)
        assert resumed.points == {}
        resumed.append("metrics", step=1, metrics={"a": 0.3})
        assert Spool(path).points == {1: {"a": 0.3}}


def test_any_changed_byte_is_noticed(path):
    spool = begun(path)
    for step in (1, 2):
        spool.append("metrics", step=step, metrics={"a": 0.1})
    content = path.read_bytes()
    first, last = content.index(b"\n") + 1, content.rindex(b"\n", 0, -1)
    for at in range(first, last):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(InputError, match="line 2: the record is damaged"):
            list(read_spool(path))
        with pytest.raises(InputError):
            Spool(path)


def test_missing_line_and_other_version_are_refused(path):
    spool = begun(path)
    spool.append("metrics", step=1, metrics={})
    spool.append("metrics", step=2, metrics={})
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(InputError, match="line 2: lines of the record are missing; got number 3"):
        list(read_spool(path))
    path.unlink()
    Spool(path).append("run", version=2)
    with pytest.raises(InputError, match="a record of another version; got 2; expected 1"):
        list(read_spool(path))


def test_not_a_number_is_kept(path):
    begun(path).append("metrics", step=1, metrics={"a": math.inf, "b": math.nan})
    metrics = Spool(path).points[1]
    assert metrics["a"] == math.inf
    assert math.isnan(metrics["b"])


def test_clock_set_back_keeps_the_order_and_says_so(path):
    times = iter([5_000_000, 5_001_000, 2_000_000, 2_000_500, 6_000_000])
    told = []
    spool = begun(path, now=lambda: next(times), say=told.append)
    for step in range(1, 4):
        spool.append("metrics", step=step, metrics={})
    Spool(path, now=lambda: next(times)).append("metrics", step=4, metrics={})
    ats = [entry.at for entry in read_spool(path)]
    assert ats == [5_000_000, 5_001_000, 5_001_001, 5_001_002, 6_000_000]
    assert told == ["the clock went back 3001 s; order is kept"]


def test_full_disk_is_one_message_and_leaves_whole_lines(full_disk):
    path = full_disk / SPOOL
    spool = begun(path)

    def fill():
        for step in range(10_000):
            spool.append("metrics", step=step, metrics={"a": 0.5})

    with pytest.raises(DeconvError, match=r"cannot write the run's record; got No space left"):
        fill()
    kept = list(read_spool(path))
    assert kept == spool.entries
    assert path.read_bytes().endswith(b"\n")
    (full_disk / "ballast").unlink()
    resumed = Spool(path)
    resumed.append("metrics", step=len(kept), metrics={"a": 0.5})
    assert len(list(read_spool(path))) == len(kept) + 1


def test_disk_that_becomes_read_only_is_one_message(full_disk):
    path = full_disk / SPOOL
    spool = begun(path)
    for option in ("ro", "rw"):
        subprocess.run(["mount", "-o", f"remount,{option}", full_disk], check=True)
        if option == "ro":
            with pytest.raises(DeconvError, match=r"cannot write the run's record; got Read-only"):
                spool.append("metrics", step=1, metrics={})
    with path.open("ab") as file:
        file.write(b"a part of a line that could not be taken back")
    spool.append("metrics", step=1, metrics={})
    assert list(read_spool(path)) == spool.entries
