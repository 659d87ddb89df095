"""Records of predictions, and drift of what a model is asked from what it was trained on."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_models import write_small_bundle

from deconv.bundle import read_bundle
from deconv.errors import ConfigError, DeconvError, InputError
from deconv.evaluate import draw_mixtures
from deconv.mixtures import MixingEngine
from deconv.simulate import simulate_atlas
from deconv.store import write_h5ad
from deconv.stored import read_h5ad
from deconv.trained_range import range_of
from experiments.drift import find_drift
from experiments.models import open_model
from experiments.predict import predict_files
from experiments.prediction_records import (
    add_records,
    read_records,
    records_of,
    require_writable,
)
from experiments.watch import watch

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, pure, mixture_config):
    return write_small_bundle(tmp_path_factory.mktemp("model") / "bundle", pure, mixture_config)


@pytest.fixture(scope="module")
def model(bundle):
    return open_model(str(bundle))


def figures_of(model, mixtures, tmp_path):
    write_h5ad(mixtures, tmp_path / "samples.h5ad")
    return predict_files([tmp_path / "samples.h5ad"], model).figures


def drifting(model, figures):
    return {d.quantity for d in find_drift(model.trained, figures) if d.drifts}


def mixed(split, atlas, config, n, **changed):
    """Mixtures of the test donor, drawn as for training but for what is changed."""
    changed = config.model_copy(update=changed)
    return draw_mixtures(MixingEngine(split.test, atlas, changed, seed=9, in_atlas=False), n)


def with_unknown(samples, share, tmp_path):
    """Replace a share of the reads of samples by those of a tissue that the atlas lacks."""
    simulate_atlas(
        tmp_path / "other.h5ad", n_regions=samples.coverage.shape[1], n_donors=1, depth=200,
        seed=77, tissues=("Blood", "Kidney"),
    )  # fmt: skip
    other = read_h5ad(tmp_path / "other.h5ad")
    row = np.flatnonzero(other.samples["tissue"] == "Kidney")[0]
    beta = other.methylated[row] / np.maximum(other.coverage[row], 1)
    generator = np.random.default_rng(0)
    replaced = generator.binomial(samples.coverage, share)
    kept = generator.hypergeometric(
        samples.methylated, samples.coverage - samples.methylated, samples.coverage - replaced
    )
    methylated = kept + generator.binomial(replaced, np.broadcast_to(beta, replaced.shape))
    return replace(samples, methylated=methylated.astype(np.int32))


def of_another_batch(samples):
    """As of poor conversion: up to 40 % of a region's unmethylated CpGs read methylated."""
    generator = np.random.default_rng(1)
    share = generator.uniform(0, 0.4, samples.coverage.shape[1])
    shape = samples.coverage.shape
    unmethylated = samples.coverage - samples.methylated
    more = generator.binomial(unmethylated, np.broadcast_to(share, shape))
    return replace(samples, methylated=(samples.methylated + more).astype(np.int32))


def test_samples_like_those_of_training_raise_no_alarm(
    model, split, atlas, mixture_config, tmp_path
):
    """Of donors never seen: 200 checks of 10, 30 and 100 samples drawn from 600."""
    figures = figures_of(model, mixed(split, atlas, mixture_config, 600), tmp_path)
    generator = np.random.default_rng(0)
    for n in (10, 30, 100):
        alarms = [
            drifting(model, figures.iloc[generator.choice(600, n, replace=False)])
            for _ in range(200)
        ]
        rate = np.mean([bool(found) for found in alarms])
        print(f"{n} samples: false alarms in {rate:.1%} of 200 checks")  # noqa: T201
        assert rate <= 0.02, alarms


def test_what_the_model_was_not_trained_for_is_noticed(
    model, split, atlas, mixture_config, tmp_path
):
    usual = mixed(split, atlas, mixture_config, 12)
    cases = {
        "depth 1": (mixed(split, atlas, mixture_config, 12, depth=(1, 1)), "coverage"),
        "unknown tissue": (with_unknown(usual, 0.2, tmp_path), "misfit_score"),
        "another batch": (of_another_batch(usual), "shift"),
    }
    for name, (samples, expected) in cases.items():
        found = drifting(model, figures_of(model, samples, tmp_path))
        print(f"{name}: {', '.join(sorted(found))}")  # noqa: T201
        assert expected in found, name
    assert not drifting(model, figures_of(model, usual, tmp_path))


def test_limits_and_sides_of_a_quantity():
    """By hand: 200 samples of misfit 1 to 200; 99 % lie between 1.995 and 199.005."""
    misfit = np.arange(1.0, 201.0)
    trained = range_of(pd.DataFrame({"misfit": misfit, "coverage": misfit}))
    assert trained.limits("misfit") == (-np.inf, pytest.approx(199.005))
    assert trained.limits("coverage") == pytest.approx((1.995, 199.005))
    recent = pd.DataFrame({"misfit": [0.0, 0.0, 300.0], "coverage": [0.0, 0.0, 300.0]})
    misfit, coverage = sorted(find_drift(trained, recent), key=lambda d: d.quantity != "misfit")
    assert (misfit.n_low, misfit.n_high, coverage.n_low, coverage.n_high) == (0, 1, 2, 1)
    assert coverage.p == pytest.approx(2 * 0.05**3)
    assert (misfit.drifts, coverage.drifts) == (False, True)
    assert coverage.farthest == ("2", "0", "1")
    assert not any(d.drifts for d in find_drift(trained, recent.iloc[:2]))


def test_predictions_are_recorded_and_watched(
    bundle, split, atlas, mixture_config, tmp_path, deconv, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_h5ad(mixed(split, atlas, mixture_config, 8), tmp_path / "usual.h5ad")
    write_h5ad(mixed(split, atlas, mixture_config, 4, depth=(1, 1)), tmp_path / "shallow.h5ad")
    asked = ("--model", bundle, "-o", "out.csv")
    assert deconv("predict", "usual.h5ad", *asked)[0] == 0
    assert not list(tmp_path.rglob("*.jsonl"))  # nothing unless it is asked for
    monkeypatch.setenv("DECONV_RECORDS", str(tmp_path / "records"))
    for _ in range(2):
        assert deconv("predict", "usual.h5ad", *asked)[0] == 0
    (file,) = (tmp_path / "records").iterdir()
    assert file.stat().st_mode & 0o007 == 0
    assert "usual.h5ad" not in file.read_text()
    records, notes = read_records(tmp_path / "records")
    assert (len(records), notes) == (16, [])
    table = pd.read_csv("out.csv").set_index("sample")
    first = records[0]
    rows = table.loc[first.sample].set_index("tissue")
    detected = rows[rows["call"] == "detected"]["proportion"]
    assert dict(first.calls) == pytest.approx(detected.to_dict())
    assert first.model["name"] == str(bundle)

    status, output, _ = deconv("drift", "--model", bundle, "--json", "drift.json")
    assert status == 0, output
    assert "8 prediction(s) of data predicted again later" in output
    found = json.loads(Path("drift.json").read_text())
    assert (found["samples"], found["drift"]) == (8, False)

    assert deconv("predict", "shallow.h5ad", *asked, "--no-record-names")[0] == 0
    assert [r.sample for r in read_records(tmp_path / "records")[0][16:]] == [""] * 4
    status, output, _ = deconv("drift", "--model", bundle, "--last", 4, "--json", "drift.json")
    assert status == 1
    assert "the model is asked what it was not trained for" in output
    found = {q["quantity"]: q for q in json.loads(Path("drift.json").read_text())["quantities"]}
    assert (found["coverage"]["n_low"], found["coverage"]["drifts"]) == (4, True)
    status, _, error = deconv("drift", "--model", bundle, "--since", "2100-01-01")
    assert (status, "no records of this model" in error) == (2, True)


def test_models_that_do_not_say_what_they_were_trained_on(
    bundle, model, tmp_path, split, atlas, mixture_config
):
    with pytest.raises(ConfigError, match="does not say what its training samples looked like"):
        watch(str(FIXTURES / "bundle_v2"), tmp_path)
    shutil.copytree(bundle, tmp_path / "before")
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["trained"]
    (tmp_path / "before" / "manifest.json").write_text(json.dumps(manifest))
    before = open_model(str(tmp_path / "before"))
    assert before.trained is None
    write_h5ad(mixed(split, atlas, mixture_config, 2), tmp_path / "samples.h5ad")
    prediction = predict_files([tmp_path / "samples.h5ad"], before)
    add_records(tmp_path / "records", records_of(prediction))
    with pytest.raises(InputError, match="no records of this model's predictions; got 2 of"):
        watch(str(bundle), tmp_path / "records")
    assert read_bundle(bundle).trained == model.trained


@pytest.fixture
def records(model, split, atlas, mixture_config, tmp_path):
    write_h5ad(mixed(split, atlas, mixture_config, 3), tmp_path / "samples.h5ad")
    return records_of(predict_files([tmp_path / "samples.h5ad"], model))


def test_records_of_many_at_once_are_all_there(records, tmp_path):
    def add(number):
        add_records(tmp_path / "kept", [replace(r, id=f"{r.id}-{number}") for r in records])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(100)))
    found, notes = read_records(tmp_path / "kept")
    assert (len(found), notes) == (300, [])
    add(0)  # as a task that is run again
    assert len(read_records(tmp_path / "kept")[0]) == 300


def test_torn_line_costs_itself_only(records, tmp_path):
    path = add_records(tmp_path / "kept", records)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    add_records(tmp_path / "kept", [replace(records[0], id="later")])
    found, notes = read_records(tmp_path / "kept")
    assert {r.id for r in found} == {*(r.id for r in records[:2]), "later"}
    assert notes == [f"{path}: 1 damaged line(s), left out"]
    path.write_bytes(path.read_bytes().replace(b'"calls"', b'"Calls"', 1))
    assert read_records(tmp_path / "kept")[1] == [f"{path}: 2 damaged line(s), left out"]


def test_full_disk_leaves_the_records_whole_and_gives_no_result(
    records, full_disk, bundle, tmp_path, deconv
):
    path = add_records(full_disk / "kept", records)
    whole = path.read_bytes()

    def add_until_full():
        for _ in range(1000):
            add_records(full_disk / "kept", [replace(r, id=os.urandom(8).hex()) for r in records])

    def fill(file):
        while True:
            os.write(file.fileno(), bytes(1024))

    with pytest.raises(DeconvError, match="cannot write the records of predictions"):
        add_until_full()
    assert path.read_bytes().startswith(whole)
    assert read_records(full_disk / "kept")[1] == []
    with (full_disk / "rest").open("wb") as file, pytest.raises(OSError, match="No space"):
        fill(file)
    asked = ("--model", bundle, "--records", full_disk / "kept", "-o", tmp_path / "out.csv")
    status, _, error = deconv("predict", tmp_path / "samples.h5ad", *asked)
    assert (status, "cannot write the records" in error) == (2, True)
    assert not (tmp_path / "out.csv").exists()


def test_place_that_takes_no_records_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DeconvError, match="cannot write the records"):
        require_writable(tmp_path / "file")
