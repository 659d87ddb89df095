"""Six runs, of which the best becomes production: what is decided, and what people see of it."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from browsers import open_page
from light_run import Server
from mlflow.tracking import MlflowClient
from stores import use_store

from deconv.store import write_h5ad
from deconv.stored import read_h5ad
from experiments.benchmark_file import write_benchmark
from experiments.config import load_config
from experiments.gates import Policy, load_policy
from experiments.launch import train_and_report
from experiments.names import BOOK, MODEL_NAME
from experiments.promotion import promote, rollback


def spoil(pure):
    """Give Lung a sixth of its regions from Liver, as when samples were mixed up."""
    wrong = pure.samples["tissue"].eq("Lung").to_numpy()
    like = np.flatnonzero(pure.samples["tissue"].eq("Liver"))[: wrong.sum()]
    coverage, methylated = pure.coverage.copy(), pure.methylated.copy()
    part = slice(0, pure.coverage.shape[1] // 6)
    coverage[wrong, part], methylated[wrong, part] = coverage[like, part], methylated[like, part]
    return dataclasses.replace(pure, coverage=coverage, methylated=methylated)


@pytest.fixture(scope="module")
def six(tmp_path_factory, empty_store, small_run, atlas_file):
    """Folder and ids of six runs; a frozen benchmark; gates that runs as small as these can meet.

    One is good, two are not sparse; code was changed, a test donor trained on, a tissue spoilt.
    """
    folder = tmp_path_factory.mktemp("six")
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        use_store(folder, patch)
        (folder / "small.yaml").write_text(yaml.safe_dump(small_run))
        write_h5ad(spoil(read_h5ad(atlas_file)), folder / "spoilt.h5ad")
        settings = {
            "good": ["data.test_mixtures=200"],
            "dense": ["model.use_two_stage=false"],
            "denser": ["model.use_two_stage=false", "random_seed=1"],
            "leaky": ["random_seed=5"],
            "dirty": ["data.test_mixtures=201"],
            "worse": [],
        }
        client, runs = MlflowClient(), {}
        for name, overrides in settings.items():
            data = "spoilt.h5ad" if name == "worse" else str(atlas_file)
            shutil.copy("small.yaml", f"{name}.yaml")
            runs[name] = train_and_report(f"{name}.yaml", data=data, overrides=overrides).run_id
            client.set_tag(runs[name], "git.commit", "a" * 40)
            client.set_tag(runs[name], "git.dirty", str(name == "dirty").lower())
        config = load_config("good.yaml", data=str(atlas_file), overrides=settings["good"])
        frozen = write_benchmark(config, folder / "benchmark.h5ad")
    content = load_policy().model_dump()
    for name in ("val/loss_trend", "test/calibration_error", "test/interval_coverage"):
        del content["metrics"][name]  # three short epochs
    return folder, runs, frozen, Policy.model_validate(content)


@pytest.fixture
def story(six, tmp_path, monkeypatch):
    """A copy of the store of the six runs, in which nothing is registered."""
    folder, runs, frozen, policy = six
    use_store(folder, monkeypatch)
    before = (folder / "mlflow.db").read_bytes()

    def decide(name, why=""):
        return promote(runs[name], benchmark=frozen, policy=policy, why=why)

    yield decide, runs
    (folder / "mlflow.db").write_bytes(before)


def reasons(decision):
    return {v.rule: v.reason for v in decision.verdicts if not v.passed}


def test_best_of_six_is_promoted_and_the_others_are_refused_for_their_reasons(story):
    decide, runs = story
    decision = decide("good")
    assert decision.promoted, decision.verdicts
    refused = {name: decide(name) for name in ("dense", "denser", "leaky", "dirty", "worse")}
    assert not any(each.promoted for each in refused.values())
    for name in ("dense", "denser"):
        assert reasons(refused[name]) == {"sparse": "a single-stage model"}
        assert refused[name].version is None
    assert "were trained on" in reasons(refused["leaky"])["donors"]
    assert "changes that were not committed" in reasons(refused["dirty"])["lineage"]
    assert reasons(refused["worse"])["no tissue much worse"].startswith("Lung has most: +")
    client = MlflowClient()
    assert client.get_model_version_by_alias(MODEL_NAME, "production").run_id == runs["good"]


def row(page, version):
    link = page.get_by_role("link", name=f"Version {version}", exact=True)
    return page.get_by_role("row").filter(has=link)


def test_registry_page_shows_who_is_production_and_why_the_others_are_not(story, tmp_path):
    decide, _ = story
    assert decide("worse", why="the first one").promoted
    assert decide("good", why="knows lung").promoted
    for name in ("leaky", "dirty", "dense", "denser", "worse"):
        assert not decide(name).promoted
    shots = Path(os.environ.get("DECONV_SCREENSHOTS", tmp_path))
    with (
        Server(Path.cwd(), f"sqlite:///{Path.cwd()}/mlflow.db") as server,
        open_page(1500, 1100) as page,
    ):
        model = f"{server.uri}/#/models/{MODEL_NAME}"

        def aliases_are(**expected):
            """Look again, and find each alias at its version and nowhere else."""
            page.goto("about:blank")
            page.goto(model)
            for alias, version in expected.items():
                row(page, version).get_by_text(f"@ {alias}", exact=True).wait_for()
                assert page.get_by_text(f"@ {alias}", exact=True).count() == 1

        aliases_are(production=2, previous=1)
        row(page, 3).get_by_text("refused: donors: ").first.wait_for()
        row(page, 4).get_by_text("refused: lineage: ").first.wait_for()
        row(page, 2).get_by_text("qualified: every rule is met").first.wait_for()
        page.screenshot(path=shots / "model.png")

        # The page of a version: what was decided, by whom and why, then the model card.
        page.goto(f"{model}/versions/2")
        page.get_by_text(": knows lung").first.wait_for()
        page.get_by_role("heading", name="Limits").wait_for()
        for cell in ("better than production", "no tissue much worse", "Lung"):
            page.get_by_role("cell", name=cell, exact=True).first.wait_for()
        page.screenshot(path=shots / "version2.png")
        page.goto(f"{model}/versions/1")
        page.get_by_text("Lung has most: +").first.wait_for()
        page.screenshot(path=shots / "version1.png")

        # Every attempt, with what became of it.
        page.goto(f"{server.uri}/#/models/{BOOK}")
        row(page, 2).get_by_text("production: 1 -> 2").first.wait_for()
        for ticket in (5, 6):
            row(page, ticket).get_by_text("refused: sparse: a single-").first.wait_for()
        page.screenshot(path=shots / "moves.png")

        assert rollback(why="a complaint") == ("1", "2")
        aliases_are(production=1, previous=2)
        page.screenshot(path=shots / "back.png")
        assert rollback(why="it was unfounded") == ("2", "1")
        aliases_are(production=2, previous=1)
