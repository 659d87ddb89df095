"""`deconv check`, `predict` and `atlas` on real and simulated files, and their pages."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from browsers import open_page

from deconv.atlas import build_atlas
from deconv.bundle import Bundle, write_bundle
from deconv.evaluate import draw_mixtures
from deconv.formats.atlases import open_atlas
from deconv.inference import calibrate
from deconv.mixtures import MixingEngine
from deconv.model import ModelConfig, TwoStageNetwork
from deconv.splits import split_by_donor
from deconv.store import write_h5ad
from deconv.stored import read_h5ad

SMOOTH_MUSCLE = "not assessable: Smooth-Musc (2 of 25 informative regions observed)"


@pytest.fixture(scope="module")
def model(tmp_path_factory, pure, mixture_config):
    """A network as it starts from its atlas, calibrated, as a bundle."""
    split = split_by_donor(pure, n_validation=1, n_test=1, seed=0)
    atlas = build_atlas(split.train)
    config = ModelConfig(hidden_size=16, intermediate_size=32)
    network = TwoStageNetwork(config, atlas, read_effect=mixture_config.read_effect)
    engine = MixingEngine(split.validation, atlas, mixture_config, seed=5, in_atlas=False)
    folder = tmp_path_factory.mktemp("model") / "bundle"
    provenance = {"run": "a-run", "run_id": "1234", "sha256": {"data": "abcd"}}
    calibration = calibrate(network, draw_mixtures(engine, 200))
    write_bundle(folder, Bundle(network, atlas, calibration, provenance))
    return folder


@pytest.fixture
def patients(tmp_path, engine):
    """Six mixtures; in the last, without Liver, the regions that speak for it are empty."""
    drawn = draw_mixtures(engine, 30)
    without = np.flatnonzero(drawn.proportions["Liver"] == 0)
    with_liver = np.flatnonzero(drawn.proportions["Liver"] > 0.05)
    mixtures = drawn.take(np.append(with_liver[:5], without[0]))
    names = pd.Index([f"mixture-{i}" for i in range(6)], name="sample")
    mixtures = replace(
        mixtures,
        samples=mixtures.samples.set_axis(names),
        proportions=mixtures.proportions.set_axis(names),
    )
    liver = mixtures.proportions.columns.get_loc("Liver")
    mean = engine.atlas.mean
    difference = np.abs(mean[liver] - np.delete(mean, liver, 0).mean(axis=0))
    hidden = difference >= min(0.3, np.sort(difference)[-25])
    mixtures.coverage[5, hidden] = mixtures.methylated[5, hidden] = 0
    path = tmp_path / "patients.h5ad"
    write_h5ad(mixtures, path)
    return path


@pytest.fixture
def browser():
    with open_page(1200) as page:
        yield page


@pytest.fixture
def uxm(shared_data):
    folder = shared_data / "uxm"
    return folder / "Atlas.U25.l4.hg19.tsv", sorted(folder.glob("*.pat.gz"))


def test_check_reports_the_empty_markers_of_real_samples(uxm, deconv, tmp_path, browser):
    atlas, files = uxm
    json_path, html = tmp_path / "check.json", tmp_path / "check.html"
    status, output, _ = deconv(
        "check", *files, "--model", atlas, "--json", json_path, "--html", html
    )
    assert status == 0
    assert "224" in output
    found = json.loads(json_path.read_text())
    assert {n: q["n_empty"] for n, q in found["quality"].items()} == {
        "Liver_STL011": 224, "Lung_STL002": 226,
    }  # fmt: skip
    for sample in found["quality"].values():
        smooth = sample["markers"]["Smooth-Musc"]
        assert smooth == {"informative": 25, "observed": 2, "call": "not assessable"}
        assert [m["call"] for m in sample["markers"].values()].count("not assessable") == 1
    warnings = [f for f in found["findings"] if f["severity"] == "warning"]
    assert [f["reason"] for f in warnings] == [SMOOTH_MUSCLE] * 2

    errors = []
    browser.on("pageerror", lambda error: errors.append(str(error)))
    browser.on("console", lambda message: errors.append(message.text))
    browser.goto(html.as_uri())
    browser.get_by_role("heading", name="Quality of samples").wait_for()
    browser.get_by_text("For research use only").wait_for()
    assert SMOOTH_MUSCLE in browser.locator("#findings").inner_text()
    assert browser.locator("#markers td.hidden").all_inner_texts() == ["2", "2"]
    assert browser.locator("#samples tbody tr").count() == 2
    assert errors == []


def test_atlas_alone_predicts_the_published_figures(uxm, deconv, tmp_path, browser):
    atlas, files = uxm
    folder = tmp_path / "out"
    status, output, error = deconv("predict", *files, "--model", atlas, "-o", folder)
    assert (status, error) == (0, "")
    assert "index.html" in output
    wide = pd.read_csv(folder / "proportions.csv", index_col="sample")
    liver, lung = wide.loc["Liver_STL011"], wide.loc["Lung_STL002"]
    assert liver["Liver-Hep"] == pytest.approx(0.592, abs=0.01)
    assert liver["Endothel"] == pytest.approx(0.164, abs=0.01)
    assert lung["Lung-Ep-Alveo"] == pytest.approx(0.244, abs=0.01)
    assert lung["Endothel"] == pytest.approx(0.341, abs=0.01)
    assert wide["Smooth-Musc"].isna().all()  # not assessable, never 0 %
    table = pd.read_csv(folder / "predictions.csv")
    calls = table.set_index(["sample", "tissue"])["call"]
    assert set(calls[:, "Smooth-Musc"]) == {"not assessable"}
    assert (folder / "composition.png").stat().st_size > 10_000

    errors = []
    browser.on("pageerror", lambda error: errors.append(str(error)))
    browser.on("console", lambda message: errors.append(message.text))
    browser.goto((folder / "index.html").as_uri())
    browser.locator(".js-plotly-plot .bars .point").first.wait_for()
    browser.get_by_role("link", name="Liver_STL011").click()
    browser.get_by_role("heading", name="Sample Liver_STL011").wait_for()
    browser.get_by_text("For research use only").wait_for()
    first = browser.locator("#tissues tbody tr").first.inner_text().split("\t")
    assert first[:3] == ["Liver-Hep", "detected", "59.23 %"]
    hidden = browser.locator("#tissues tr.not-assessable").inner_text().split("\t")
    assert hidden[:3] == ["Smooth-Musc", "not assessable", "\N{EN DASH}"]
    assert SMOOTH_MUSCLE in browser.locator("#findings").inner_text()
    assert errors == []


def test_network_reports_intervals_limits_and_its_run(model, patients, deconv, tmp_path):
    folder = tmp_path / "out"
    status, _, error = deconv("predict", patients, "--model", model, "-o", folder)
    assert (status, error) == (0, "")
    found = json.loads((folder / "predictions.json").read_text())
    assert found["model"]["MLflow run id"] == "1234"
    assert found["for"] == "research use only"
    assert len(found["samples"]) == 6
    liver = [t for t in found["samples"]["mixture-5"]["tissues"] if t["tissue"] == "Liver"]
    assert liver[0]["call"] == "not assessable"
    assert liver[0]["proportion"] is None
    reasons = [f["reason"] for f in found["findings"] if f["sample"] == "mixture-5"]
    assert any(r.startswith("not assessable: Liver (0 of") for r in reasons)
    page = (folder / "samples" / "mixture-0.html").read_text()
    for part in ("95 % interval", "limit of detection", "a-run", "1234", "abcd", "SHA-256"):
        assert part in page
    wide = pd.read_csv(folder / "proportions.csv", index_col="sample")
    complete = wide.drop(index="mixture-5")
    assert complete.notna().all(axis=None)
    np.testing.assert_allclose(complete.sum(axis=1), 1, atol=1e-5)
    assert list(wide.columns)[-1] == "out_of_atlas"


def test_csv_output_is_one_table_and_a_figure(model, patients, deconv, tmp_path):
    status, output, _ = deconv("predict", patients, "--model", model, "-o", tmp_path / "p.csv")
    assert status == 0
    assert "6 sample(s), 400 of the model's 400 regions" in output
    table = pd.read_csv(tmp_path / "p.csv")
    assert (table.loc[table["call"] == "not detected", "proportion"] == 0).all()
    assert table.loc[table["call"] == "not assessable", "proportion"].isna().all()
    assert (tmp_path / "p.png").exists()


def test_names_with_markup_and_slashes_are_only_text(model, patients, deconv, tmp_path):
    names = ["<b>x</b>", "a/b", "A_b", "[red]y", "..", "mixture-5"]
    rows = [f'"mixture-{i}",patients.h5ad' for i in range(6)]
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("\n".join(["sample,path", *rows]))
    counts = read_h5ad(patients)
    samples = counts.samples.set_axis(pd.Index(names, name="sample"))
    proportions = counts.proportions.set_axis(samples.index)
    write_h5ad(replace(counts, samples=samples, proportions=proportions), patients)
    folder = tmp_path / "out"
    status, _, _ = deconv("predict", patients, "--model", model, "-o", folder)
    assert status == 0
    assert sorted(p.name for p in (folder / "samples").iterdir()) == [
        "A_b-2.html", "a_b.html", "b_x_b.html", "mixture-5.html", "red_y.html", "sample.html",
    ]  # fmt: skip
    page = (folder / "index.html").read_text()
    assert "<b>x" not in page
    status, _, error = deconv("predict", sheet, "--model", model, "-o", folder)
    assert status == 2
    assert "sheet.csv, line 2: the file has no such sample; got mixture-0" in error


def test_check_goes_on_after_a_file_that_cannot_be_used(model, patients, deconv, tmp_path):
    (tmp_path / "bad.tsv").write_text("what\tis\tthis\n1\t2\t3\n")
    json_path = tmp_path / "check.json"
    status, output, _ = deconv(
        "check", tmp_path / "bad.tsv", tmp_path / "gone.h5ad", patients, patients,
        "--model", model, "--json", json_path,
    )  # fmt: skip
    assert status == 1
    errors = [f for f in json.loads(json_path.read_text())["findings"] if f["severity"] == "error"]
    assert [f["sample"] for f in errors] == ["bad.tsv", "gone.h5ad", "patients.h5ad"]
    assert "no such file" in errors[1]["reason"]
    assert "two files have the same sample" in errors[2]["reason"]
    assert "mixture-3" in output


def test_check_names_the_wrong_genome_build(model, patients, deconv, tmp_path):
    json_path = tmp_path / "check.json"
    arguments = ("--model", model, "--build", "hg19", "--json", json_path)
    assert deconv("check", patients, *arguments)[0] == 1
    (finding,) = json.loads(json_path.read_text())["findings"]
    assert "another genome build" in finding["reason"]


def test_sheet_labels_what_is_checked(model, patients, deconv, tmp_path):
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(
        "sample,path,donor,conversion\n"
        "mixture-0,patients.h5ad,P1,99.8\nmixture-1,patients.h5ad,P2,90\n"
    )
    json_path = tmp_path / "check.json"
    status, _, _ = deconv("check", sheet, "--model", model, "--json", json_path)
    assert status == 1
    found = json.loads(json_path.read_text())
    assert list(found["quality"]) == ["mixture-0", "mixture-1"]
    assert found["quality"]["mixture-1"]["donor"] == "P2"
    (error,) = [f for f in found["findings"] if f["severity"] == "error"]
    assert error["check"] == "conversion"


def test_output_of_an_unknown_kind_is_refused_first(model, patients, deconv, tmp_path):
    status, _, error = deconv("predict", patients, "--model", model, "-o", tmp_path / "out.xlsx")
    assert status == 2
    assert "unknown suffix" in error


def test_atlas_is_built_of_a_sheet_mapped_and_exported(shared_data, deconv, tmp_path):
    source = shared_data / "metdecode" / "atlas-with-rep.tsv"
    names = ["monocyte-1", "monocyte-2", "BRCA-1", "CESC-1", "COAD-1"]
    rows = [f"{n},{source},{n.split('-')[0]},D{i}" for i, n in enumerate(names)]
    (tmp_path / "sheet.csv").write_text("\n".join(["sample,path,tissue,donor", *rows]))
    (tmp_path / "map.yaml").write_text("merge: {tumour: [BRCA, CESC]}\ndrop: [COAD]\n")
    status, output, error = deconv(
        "atlas", "build", tmp_path / "sheet.csv", "-o", tmp_path / "atlas.h5ad",
        "--map", tmp_path / "map.yaml",
    )  # fmt: skip
    assert (status, error) == (0, "")
    assert "4 samples of 2 tissues, 294 regions" in output
    built = open_atlas(tmp_path / "atlas.h5ad").donors
    assert built.samples["tissue"].tolist() == ["monocyte", "monocyte", "tumour", "tumour"]
    assert built.samples["donor"].tolist() == ["D0", "D1", "D2", "D3"]
    whole = open_atlas(source).donors
    assert (
        built.load().coverage[3] == whole.coverage[whole.samples.index.get_loc("CESC-1")]
    ).all()
    assert deconv("atlas", "export", tmp_path / "atlas.h5ad", "-o", tmp_path / "atlas.tsv")[0] == 0
    assert open_atlas(tmp_path / "atlas.tsv").donors.content_hash == built.content_hash


def test_atlas_of_a_model_is_exported(model, deconv, tmp_path):
    status, output, error = deconv("atlas", "export", model, "-o", tmp_path / "atlas.tsv")
    assert (status, error) == (0, "")
    assert "means of 6 tissues, 400 regions of " in output
    manifest = json.loads((model / "manifest.json").read_text())
    assert open_atlas(tmp_path / "atlas.tsv").atlas.content_hash == manifest["atlas_hash"]


def test_sample_without_coverage_is_a_finding_of_check_only(model, patients, deconv, tmp_path):
    counts = read_h5ad(patients)
    counts.coverage[2] = counts.methylated[2] = 0
    write_h5ad(counts, tmp_path / "empty.h5ad")
    args = [tmp_path / "empty.h5ad", "--model", model]
    html = tmp_path / "check.html"
    status, output, _ = deconv("check", *args, "--html", html)
    assert status == 1
    assert "400 of 400 regions have no" in " ".join(output.split())
    assert "mixture-2" in html.read_text()
    status, _, error = deconv("predict", *args, "-o", tmp_path / "out")
    assert status == 2
    assert "mixture-2" in error


def test_atlas_map_with_an_unknown_tissue_is_refused(shared_data, deconv, tmp_path):
    (tmp_path / "map.yaml").write_text("drop: [Liver]\n")
    status, _, error = deconv(
        "atlas", "build", shared_data / "nanomix" / "39Bisulfite.tsv",
        "-o", tmp_path / "a.h5ad", "--map", tmp_path / "map.yaml",
    )  # fmt: skip
    assert status == 2
    assert "map.yaml: no such tissue in the atlas; got Liver" in error
    assert not (tmp_path / "a.h5ad").exists()


def test_atlas_of_fragment_files_counts_in_given_regions(uxm, deconv, tmp_path):
    atlas, files = uxm
    rows = [f"{f.name.split('_')[0]}1,{f},{f.name.split('_')[0]}" for f in files]
    (tmp_path / "sheet.csv").write_text("\n".join(["sample,path,group", *rows]))
    status, _, error = deconv(
        "atlas", "build", tmp_path / "sheet.csv", "-o", tmp_path / "a.tsv", "--regions", atlas
    )
    assert (status, error) == (0, "")
    donors = open_atlas(tmp_path / "a.tsv").donors
    assert donors.samples["tissue"].tolist() == ["Liver", "Lung"]
    assert (donors.coverage == 0).sum(axis=1).tolist() == [224, 226]
    assert donors.regions.feature == "u_fragment"


def test_training_on_means_needs_a_stated_variance(
    shared_data, store, small_config, client, deconv
):
    config = small_config(
        model={"hidden_size": 64, "intermediate_size": 64},
        training={"num_epochs": 1, "mixtures_per_epoch": 32},
        data={
            "validation_mixtures": 40,
            "test_mixtures": 40,
            "mixtures": {"designs": {"several": 1.0}, "background": [], "depth": [20, 60]},
        },
    )
    atlas = shared_data / "uxm" / "Atlas.U25.l4.hg19.tsv"
    status, _, error = deconv("train", config, "--data", atlas)
    assert status == 2
    assert "means only" in error
    assert "--set data.assume.rho=0.02" in error
    assumed = ["--set", "data.assume.rho=0.02", "--set", "data.assume.donors=5"]
    status, _, error = deconv("train", config, "--data", atlas, *assumed)
    assert status == 0, error
    (run,) = client.search_runs(["1"])
    assert run.data.params["data.assume.rho"] == "0.02"
    (bundle,) = store.glob("runs/*/bundle")
    model = json.loads((bundle / "manifest.json").read_text())
    assert len(model["tissues"]) == 36


def test_nothing_is_assumed_of_data_with_donors(store, small_config, atlas_file, deconv):
    status, _, error = deconv(
        "train", small_config(), "--data", atlas_file, "--set", "data.assume.rho=0.02"
    )
    assert status == 2
    assert "the data have donors" in error
