"""Paths that cannot be read or written: one message with the path, before any work."""

import json
import os
import subprocess
import sys

import pytest

TABLE = (
    "chrom\tstart\tend\tA-1_METH\tA-1_DEPTH\tB-1_METH\tB-1_DEPTH\n"
    "chr1\t1\t9\t1\t20\t13\t14\nchr1\t11\t19\t12\t20\t3\t14\n"
)
LONG = "x" * 300


@pytest.fixture
def table(store):
    path = store / "ok.tsv"
    path.write_text(TABLE)
    (store / "folder.h5ad").mkdir()
    return path


def deconv_without_rights(*arguments):
    """Run the command as somebody whom permissions hold, also where the tests are root's."""
    command = [sys.executable, "-m", "deconv", *map(str, arguments)]
    if os.geteuid() == 0:
        bounds = "-dac_override,-dac_read_search"
        command = ["setpriv", f"--bounding-set={bounds}", f"--inh-caps={bounds}", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def refused(status, error, path):
    assert status == 2, error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert str(path) in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "ok.tsv", "-o", "PATH"],
        ["convert", "ok.tsv", "-o", "o.h5ad", "--json", "PATH"],
        ["atlas", "build", "ok.tsv", "-o", "PATH"],
        ["atlas", "export", "ok.tsv", "-o", "PATH"],
        ["predict", "ok.tsv", "--model", "ok.tsv", "-o", "PATH"],
        ["check", "ok.tsv", "--model", "ok.tsv", "--json", "PATH"],
        ["check", "ok.tsv", "--model", "ok.tsv", "--html", "PATH"],
    ],
    ids=lambda a: " ".join(a[:1] + a[-2:-1]),
)
@pytest.mark.parametrize("folder", ["ok.tsv", "/proc", "long", "folder"])
def test_places_that_take_no_file(deconv, store, table, arguments, folder):
    suffix = {"predict": ".csv", "--json": ".json", "--html": ".html"}.get(
        arguments[-2] if arguments[-2] != "-o" else arguments[0], ".h5ad"
    )
    path = {"long": LONG + suffix, "folder": f"folder{suffix}"}.get(folder, f"{folder}/o{suffix}")
    if folder == "folder":
        (store / path).mkdir(exist_ok=True)
    before = sorted(store.rglob("*"))
    status, _, error = deconv(*[path if a == "PATH" else a for a in arguments])
    refused(status, error, path)
    assert sorted(store.rglob("*")) == before


def test_folder_that_may_not_be_written(store, table):
    (store / "ro").mkdir(mode=0o555)
    done = deconv_without_rights("convert", table, "-o", store / "ro" / "o.h5ad")
    refused(done.returncode, done.stderr, store / "ro" / "o.h5ad")
    assert "Permission denied" in done.stderr


def test_file_that_may_not_be_read_is_a_finding_among_others(store, table):
    secret = store / "secret.tsv"
    secret.write_text(TABLE.replace("A-1", "C-1").replace("B-1", "D-1"))
    secret.chmod(0)
    (store / "sheet.csv").write_text("sample,path\nA-1,ok.tsv\nC-1,secret.tsv\nB-1,ok.tsv\n")
    for files in (["sheet.csv"], ["secret.tsv", "ok.tsv"]):
        done = deconv_without_rights(
            "check", *[store / f for f in files], "--model", table, "--json", store / "c.json"
        )
        assert done.returncode == 1, done.stderr
        found = json.loads((store / "c.json").read_text())
        errors = [f["reason"] for f in found["findings"] if f["severity"] == "error"]
        assert errors == [f"{secret}: the file cannot be read; got Permission denied"]
        assert "ok.tsv: 2 sample(s), 2 of the model's 2 regions" in done.stdout.replace("\n", "")
    done = deconv_without_rights("predict", table, "--model", secret)
    refused(done.returncode, done.stderr, secret)


def test_long_names_that_fit_are_written(deconv, store, table):
    name = "x" * 245 + ".h5ad"
    status, _, error = deconv("convert", table, "-o", name)
    assert status == 0, error
    assert (store / name).is_file()
