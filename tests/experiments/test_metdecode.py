"""Real sequencing counts: MetDecode's reference replicates and dilutions of tumours."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import nnls

from experiments.config import load_config
from experiments.data import load_run_data
from experiments.launch import train_and_report
from experiments.real import real_rows

TUMOURS = ("BRCA", "CEAD", "CESC", "COAD", "OV", "READ")
QUICK = (
    "training.num_epochs=2",
    "training.mixtures_per_epoch=1280",
    "data.validation_mixtures=100",
)


def test_dilutions_are_predicted_beside_nnls(store, client, shared_data):
    folder = shared_data / "metdecode"
    result = train_and_report("metdecode", data=str(folder), overrides=QUICK)
    table = pd.read_csv(result.folder / "dilutions.csv")
    assert len(table) == 480
    assert sorted(table["true"].unique()) == [
        0.001, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5,
    ]  # fmt: skip
    for method, name in (("network", "dilutions/mae"), ("nnls", "dilutions/nnls/mae")):
        error = (table[method] - table["true"]).abs().mean()
        assert result.metrics[name] == pytest.approx(error, rel=1e-6)
        assert client.get_run(result.run_id).data.metrics[name] == result.metrics[name]

    # The same by hand, from the text of a file.
    data = load_run_data(load_config("metdecode", overrides=QUICK, data=str(folder)), "cpu")
    tumour = np.isin(data.atlas.tissues, TUMOURS)
    text = pd.read_csv(folder / "insilico_Ov79.tsv", sep="\t")
    name = next(c for c in text.columns if re.search(r"_Tu10_METH$", c)).removesuffix("_METH")
    beta = text[f"{name}_METH"] / text[f"{name}_DEPTH"]
    solution, _ = nnls(data.atlas.mean.T.astype(float), beta.to_numpy())
    expected = solution[tumour].sum() / solution.sum()
    assert table.set_index("sample").loc[name, "nnls"] == pytest.approx(expected, abs=1e-6)


def test_real_data_are_a_scenario_of_the_benchmark(store, shared_data):
    rows = real_rows(shared_data, overrides=QUICK)
    of = {(row["scenario"], row["method"]): row for row in rows}
    dilutions = of["metdecode", "network"]
    assert 0 < dilutions["mae"] < of["metdecode", "weighted_nnls"]["mae"]
    assert dilutions["mean_call_0.1%"] < of["metdecode", "nnls"]["mean_call_0.1%"]
    assert of["meth_atlas", "network at its start"]["all_right"]
    liver = next(row for row in rows if row["scenario"] == "uxm Liver_STL011")
    assert liver["is_largest"]
