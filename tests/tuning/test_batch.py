"""Batches on this machine: the same as `deconv predict`, whatever is killed or broken."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_models import register_bundle, write_small_bundle
from studies import DECONV

from deconv.evaluate import draw_mixtures
from deconv.store import write_h5ad
from experiments.batch import share
from experiments.batch_plan import Asked, begin
from experiments.prediction_records import read_records
from tuning.batch import _ranges

TABLES = ("predictions.csv", "proportions.csv", "predictions.json", "composition.png")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, pure, mixture_config):
    return write_small_bundle(tmp_path_factory.mktemp("model") / "bundle", pure, mixture_config)


@pytest.fixture
def sheet(place, engine):
    """A sheet of 8 files: six of one sample, and one of three, two of which are listed."""

    def write(n_single=6, name="sheet.csv", **broken):
        mixtures = draw_mixtures(engine, n_single + 3)
        rows = ["sample,path,donor"]
        for i in range(n_single):
            one = replace(mixtures.take([i]), proportions=None)
            if broken.get("empty") == i:
                one = replace(one, coverage=one.coverage * 0, methylated=one.methylated * 0)
            write_h5ad(one, place / "data" / f"{i}.h5ad")
            rows.append(f"patient {i},data/{i}.h5ad,donor {i}")
        write_h5ad(mixtures.take(range(n_single, n_single + 3)), place / "data" / "several.h5ad")
        rows += [f"mixture-{n_single + k},data/several.h5ad,donor {k}" for k in (2, 0)]
        (place / name).write_text("\n".join(rows) + "\n")
        return place / name

    return write


def assert_same_as_predict(folder, predicted):
    for name in TABLES:
        assert (folder / name).read_bytes() == (predicted / name).read_bytes(), name
    pages = sorted(p.relative_to(predicted) for p in predicted.rglob("*.html"))
    assert pages == sorted(p.relative_to(folder) for p in folder.rglob("*.html"))
    for page in pages:
        assert undated(folder / page) == undated(predicted / page)


def undated(page):
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", "", page.read_text())


def results_in(folder):
    return {p.name: p.stat().st_mtime_ns for p in folder.glob(".batch/results/*/[0-9]*.json")}


def test_batch_equals_predict_to_the_last_bit_and_records_once(
    place, sheet, bundle, deconv, monkeypatch
):
    table = sheet()
    register_bundle(bundle)
    assert deconv("predict", table, "-o", "predicted")[0] == 0
    command = ("batch", table, "-o", "results", "--jobs", 2, "--records", "records")
    status, output, error = deconv(*command)
    assert (status, error) == (0, "")
    assert "8 sample(s) analysed" in output
    assert_same_as_predict(place / "results", place / "predicted")
    records, notes = read_records(place / "records")
    assert [notes, len(records), {r.model["version"] for r in records}] == [[], 8, {"1"}]

    # Whatever `production` is by now, the batch goes on with what it was.
    register_bundle(bundle, alias="production")
    done = results_in(place / "results")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert deconv("batch", "results")[0] == 0
    assert deconv(*command)[0] == 0
    assert results_in(place / "results") == done
    assert_same_as_predict(place / "results", place / "predicted")
    assert len(read_records(place / "records")[0]) == 8
    (kept,) = (place / "records").iterdir()
    assert len(kept.read_text().splitlines()) == 8

    status, _, error = deconv(*command, "--build", "hg19")
    assert status == 2
    assert "another batch was begun here; got build hg19; expected build unknown" in error
    table.write_text(table.read_text() + "\n")
    status, _, error = deconv("batch", "results")
    assert (status, "the sheet is not the one" in error) == (2, True)


def test_killed_batch_goes_on_where_it_stopped(place, sheet, bundle, deconv):
    table = sheet(n_single=40)
    command = ("batch", table, "-o", "results", "--jobs", 2, "--model", bundle)
    running = subprocess.Popen([DECONV, *map(str, command)], stdout=subprocess.DEVNULL)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    deadline = time.monotonic() + 180
    while not results_in(place / "results") and time.monotonic() < deadline:
        workers = children.read_text().split()
        time.sleep(0.002)
    running.kill()
    os.kill(int(workers[0]), signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    while any(Path(f"/proc/{w}/exe").exists() for w in workers):
        assert time.monotonic() < deadline  # the other one stops before its next file
        time.sleep(0.05)
    done = results_in(place / "results")
    assert 0 < len(done) < 41, "the kill came too late"
    # What a full disk or a power cut may leave: a result that is not whole.
    damaged = next((place / "results").glob(".batch/results/*/[0-9]*.json"))
    damaged.write_bytes(damaged.read_bytes()[:-20])

    status, _, error = deconv(*command[:-4], "--jobs", 1, *command[-2:])
    assert (status, error) == (0, "")
    again = results_in(place / "results")
    assert len(again) == 41
    assert {n for n in done if again[n] != done[n]} == {damaged.name}
    assert deconv("predict", table, "-o", "predicted", "--model", bundle)[0] == 0
    assert_same_as_predict(place / "results", place / "predicted")


def test_what_cannot_be_analysed_is_listed_and_the_others_are_analysed(
    place, sheet, bundle, deconv
):
    table = sheet(empty=1)
    good = {i: (place / "data" / f"{i}.h5ad").read_bytes() for i in (0, 2)}
    (place / "data" / "0.h5ad").unlink()
    (place / "data" / "2.h5ad").write_bytes(good[2][: len(good[2]) // 2])
    command = ("batch", table, "-o", "results", "--jobs", 1, "--model", bundle)
    status, output, error = deconv(*command)
    assert status == 1
    assert "5 sample(s) analysed" in output
    assert "3 sample(s) could not be analysed" in error
    failed = pd.read_csv("results/failed.csv").set_index("sample")
    assert list(failed.index) == ["patient 0", "patient 1", "patient 2"]
    assert "no such file" in failed.loc["patient 0", "reason"]
    assert "no coverage in any region" in failed.loc["patient 1", "reason"]
    assert "damaged" in failed.loc["patient 2", "reason"]
    found = json.loads(Path("results/predictions.json").read_text())
    assert {f["sample"] for f in found["findings"] if f["check"] == "file"} == set(failed.index)

    done = results_in(place / "results")
    for number, content in good.items():
        (place / "data" / f"{number}.h5ad").write_bytes(content)
    status, output, _ = deconv(*command)  # files that changed are analysed again, no others
    assert status == 1
    assert list(pd.read_csv("results/failed.csv")["sample"]) == ["patient 1"]
    again = results_in(place / "results")
    assert {n for n in done if again[n] != done[n]} == {"0000000.json", "0000002.json"}
    assert deconv(*command, "--retry")[0] == 1
    assert results_in(place / "results")["0000001.json"] != again["0000001.json"]
    (place / "rest.csv").write_text(
        "".join(line for line in table.read_text().splitlines(True) if "patient 1" not in line)
    )
    assert deconv("predict", "rest.csv", "-o", "predicted", "--model", bundle)[0] == 0
    ours, expected = (pd.read_csv(f"{f}/predictions.csv") for f in ("results", "predicted"))
    pd.testing.assert_frame_equal(ours, expected, check_exact=True)


def test_model_that_went_is_refused(place, sheet, bundle, deconv):
    shutil.copytree(bundle, place / "model")
    asked = Asked(str(sheet(n_single=1)), "model", "unknown", None, 0.9, None, True)
    begin(place / "results", asked)
    (place / "model").rename(place / "elsewhere")
    status, _, error = deconv("batch", "results", "--jobs", 1)
    assert status == 2
    assert "the batch's model is not there" in error


def test_only_sheets_and_models_that_stay(place, sheet, bundle, deconv):
    (place / "none.csv").write_text("a,b\n1,2\n")
    status, _, error = deconv("batch", "none.csv", "-o", "results")
    assert (status, "no sample sheet" in error) == (2, True)
    status, _, error = deconv("batch", sheet(), "-o", "results", "--model", "runs:/1/model")
    assert (status, "a model that stays where it is" in error) == (2, True)
    status, _, error = deconv("batch", "none.csv")
    assert (status, "-o FOLDER is needed" in error) == (2, True)


def test_dry_run_prints_the_scripts_and_begins_nothing(place, sheet, deconv):
    status, output, _ = deconv("batch", sheet(), "-o", "results", "--slurm", "--jobs", 4,
                               "--at-once", 2, "--dry-run")  # fmt: skip
    assert status == 0
    for line in ("--array=0-3%2", "--partition=gpua100", "--requeue", "--dependency=afterany:JOB"):
        assert f"#SBATCH {line}\n" in output
    assert f"batch {place}/results --share-of 4 &" in output
    assert f"batch {place}/results --gather &" in output
    assert not (place / "results").exists()


def test_shares_are_all_files_once():
    for n_files in (1, 7, 50):
        for of in (1, 3, 7):
            files = np.concatenate([list(share(n, of, n_files)) for n in range(of)])
            assert files.tolist() == list(range(n_files))
    assert _ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
