"""Bad input on the command line: one message, status 2, and nothing half-written."""

import numpy as np
import pytest

from deconv.evaluate import draw_mixtures
from deconv.store import write_h5ad

TABLE = "chrom\tstart\tend\ta-1_METH\ta-1_DEPTH\ta-2_METH\ta-2_DEPTH\nchr1\t1\t9\t1\t2\t3\t4\n"


@pytest.fixture
def model(tmp_path_factory, atlas):
    import torch

    from deconv.bundle import Bundle, write_bundle
    from deconv.model import ModelConfig, TwoStageNetwork

    folder = tmp_path_factory.mktemp("model") / "bundle"
    torch.manual_seed(0)
    network = TwoStageNetwork(
        ModelConfig(hidden_size=16, intermediate_size=16), atlas, read_effect=2.5
    )
    write_bundle(folder, Bundle(network, atlas))
    return folder


@pytest.fixture
def samples(unseen, tmp_path):
    path = tmp_path / "samples.h5ad"
    write_h5ad(draw_mixtures(unseen, 3), path)
    return path


def refused(deconv, store, *arguments):
    before = sorted(store.rglob("*"))
    status, _, error = deconv(*arguments)
    assert status == 2, error
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert sorted(store.rglob("*")) == before
    return error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TABLE.replace("a-1_DEPTH", "a-1_TOTAL"), "a column is missing or unexpected"),
        (TABLE.replace("\t1\t2\t", "\t3\t2\t"), "methylated exceeds coverage"),
        (TABLE.replace("\t1\t2\t", "\t-1\t2\t"), "not counts; got '-1'"),
        (TABLE.replace("\t1\t2\t", "\t1.5\t2\t"), "not counts; got '1.5'"),
        (TABLE.replace("\t1\t2\t", "\tnan\t2\t"), "not counts; got nothing"),
        ("", "the file is empty"),
        (TABLE, "genome build differs"),
    ],
)
def test_malformed_tables(deconv, store, model, text, message):
    (store / "t.tsv").write_text(text)
    error = refused(deconv, store, "predict", store / "t.tsv", "--model", model)
    assert message in error
    assert str(store / "t.tsv") in error


def test_no_overlap_of_regions(deconv, store, model):
    (store / "t.tsv").write_text(TABLE)
    options = ("--model", model, "--build", "simulated")
    error = refused(deconv, store, "predict", store / "t.tsv", *options)
    assert "t.tsv: 0 of the 400 regions needed are in the data" in error


def test_another_genome_build(deconv, store, model, samples):
    options = ("--model", model, "--build", "hg19")
    error = refused(deconv, store, "predict", samples, *options)
    assert "states another genome build; got simulated; expected hg19" in error


def test_truncated_samples_and_model(deconv, store, model, samples):
    samples.write_bytes(samples.read_bytes()[:-500])
    assert "damaged, truncated" in refused(deconv, store, "predict", samples, "--model", model)
    (store / "c.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    assert "truncated or damaged" in refused(
        deconv, store, "predict", samples, "--model", store / "c.pt"
    )
    assert "no such file" in refused(deconv, store, "predict", samples, "--model", store / "none")
    assert "cannot fetch the model" in refused(deconv, store, "predict", samples)


def test_two_files_with_the_same_samples(deconv, store, model, samples):
    error = refused(deconv, store, "predict", samples, samples, "--model", model)
    assert "two files have the same sample; got mixture-0" in error


def test_output_of_an_unknown_kind(deconv, store, model, samples):
    options = ("--model", model, "-o", store / "out.xlsx")
    assert "out.xlsx: unknown suffix" in refused(deconv, store, "predict", samples, *options)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.presense_weight=2", "unknown key loss.presense_weight; expected presence_weight?"),
        ("model.sparsity_regularization=0.1", "is no longer a weight"),
        ("training.batch_size=0", "training.batch_size"),
    ],
)
def test_wrong_settings(deconv, store, atlas_file, override, message):
    arguments = ("train", "demo", "--data", atlas_file, "--set", override)
    assert message in refused(deconv, store, *arguments)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.mixtures.background=[Spleen]"], "unknown background tissue Spleen"),
        (["data.mixtures.designs={triple: 1}"], "unknown design triple"),
        (["model.n_regions=51089"], "the data are of another size; got 51089; expected 400"),
        (["data.test_donors=9"], "too few donors to split"),
        (["model.pretrained_checkpoint=none.pt"], "none.pt: no such file"),
        (["data.tissue_table=none.csv"], "none.csv: no such file"),
        (["data.genome_build=hg38"], "another genome build; got simulated; expected hg38"),
    ],
)
def test_settings_that_do_not_fit_the_data(deconv, store, atlas_file, overrides, message):
    arguments = [part for o in overrides for part in ("--set", o)]
    status, _, error = deconv("train", "demo", "--data", atlas_file, *arguments)
    assert status == 2
    assert message in error
    assert not list(store.glob("runs/*"))  # a run that never began leaves no folder


def test_device_that_is_not_here(deconv, store, atlas_file):
    arguments = ("train", "demo", "--data", atlas_file, "--device", "tpu")
    assert "--device: no such device; got tpu" in refused(deconv, store, *arguments)


def test_missing_data_is_asked_for(deconv, store):
    assert "data.path: no data; expected a path" in deconv("train", "demo")[2]


def test_rows_of_the_prediction_are_whole_numbers_of_samples(deconv, store, model, samples):
    import pandas as pd

    status, output, _ = deconv("predict", samples, "--model", model)
    assert status == 0
    table = pd.read_csv(store / "predictions.csv")
    np.testing.assert_allclose(table.groupby("sample")["proportion"].sum(), 1, atol=1e-6)
    assert len(table) == 3 * 6
    assert "predictions.png" in output
