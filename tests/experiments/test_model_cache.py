"""The cache of registered models: offline nodes, damage, races and kills."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from light_run import Server
from small_models import register_bundle, write_small_bundle

from deconv.bundle import bundle_hash
from deconv.errors import CheckpointError, ConfigError
from deconv.evaluate import draw_mixtures
from deconv.store import write_h5ad
from experiments.model_cache import cache_folder, fetch_cached
from experiments.models import open_model
from experiments.names import MODEL_NAME

PRODUCTION = f"models:/{MODEL_NAME}@production"
FETCH = "import sys; from experiments.model_cache import fetch_cached; fetch_cached(sys.argv[1])"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, pure, mixture_config):
    folder = tmp_path_factory.mktemp("bundles")
    return [
        write_small_bundle(folder / str(i), pure, mixture_config, called_from=threshold)
        for i, threshold in enumerate((0.5, 0.6))
    ]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DECONV_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def patients(tmp_path, engine):
    write_h5ad(draw_mixtures(engine, 3), tmp_path / "patients.h5ad")
    return tmp_path / "patients.h5ad"


def downloads(monkeypatch):
    """Count what is fetched from the registry."""
    fetched = []
    original = mlflow.artifacts.download_artifacts

    def counted(**arguments):
        fetched.append(arguments["artifact_uri"])
        return original(**arguments)

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", counted)
    return fetched


def test_node_without_a_server_predicts_from_the_cache_and_says_so(
    store, tmp_path, bundles, empty_store, cache, patients, deconv, monkeypatch
):
    shutil.copy(empty_store, tmp_path / "server.db")
    server = Server(tmp_path, f"sqlite:///{tmp_path}/server.db")
    with server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        register_bundle(bundles[0])
        status, output, _ = deconv("models", "--fetch")
        assert status == 0
        assert output.startswith(f"version 1, SHA-256 {bundle_hash(bundles[0])}\n{cache}")
        assert deconv("predict", patients, "-o", "online.csv")[0] == 0
    for model, named in ((PRODUCTION, True), (f"models:/{MODEL_NAME}/1", False)):
        status, output, error = deconv("predict", patients, "--model", model, "-o", "offline")
        assert (status, error) == (0, "")
        said = re.findall(r"taken to be version 1, which it was on 20\d\d-\S+; now", output)
        assert len(said) == named
        facts = json.loads(Path("offline/predictions.json").read_text())["model"]
        assert facts["model version"].startswith("1, as last known: " if named else "1")
        assert facts["model SHA-256"] == bundle_hash(bundles[0])
        pd.testing.assert_frame_equal(
            pd.read_csv("offline/predictions.csv"), pd.read_csv("online.csv")
        )
    status, _, error = deconv("models", "--fetch")
    assert status == 2
    assert "not fetched anew" in error
    for unknown in (f"models:/{MODEL_NAME}/2", f"models:/{MODEL_NAME}@previous"):
        with pytest.raises(ConfigError, match=r"not in the cache.*deconv models --fetch"):
            fetch_cached(unknown)


def test_what_is_cached_is_not_fetched_again(store, bundles, cache, monkeypatch):
    register_bundle(bundles[0])
    register_bundle(bundles[1], tagged=False)
    fetched = downloads(monkeypatch)
    for _ in range(2):
        assert fetch_cached(f"models:/{MODEL_NAME}/1").sha256 == bundle_hash(bundles[0])
        found = fetch_cached(PRODUCTION)
        assert (found.version, found.sha256, found.note) == ("2", bundle_hash(bundles[1]), "")
    assert fetched == [f"models:/{MODEL_NAME}/{n}" for n in (1, 2)]
    monkeypatch.setenv("DECONV_OFFLINE", "1")
    assert "DECONV_OFFLINE=1" in fetch_cached(PRODUCTION).note
    assert fetched == [f"models:/{MODEL_NAME}/{n}" for n in (1, 2)]


def test_another_model_of_the_same_version_is_not_taken_for_it(store, empty_store, bundles, cache):
    """As where a registry was set up anew at the same address."""
    register_bundle(bundles[0], tagged=False)
    assert fetch_cached(PRODUCTION).sha256 == bundle_hash(bundles[0])
    shutil.copy(empty_store, store / "new.db")
    (store / "new.db").replace(store / "mlflow.db")
    code = f"""
from pathlib import Path
from small_models import register_bundle
from experiments.model_cache import fetch_cached
register_bundle(Path({str(bundles[1])!r}), tagged=False)
print(fetch_cached({PRODUCTION!r}).sha256)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "plugins")},
    )  # fmt: skip
    assert done.stdout.strip() == bundle_hash(bundles[1])


def test_damaged_cache_is_mended_or_refused(store, bundles, cache, monkeypatch):
    register_bundle(bundles[0])
    weights = fetch_cached(PRODUCTION).folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.setenv("DECONV_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: the file is not what"):
        open_model(PRODUCTION)
    monkeypatch.delenv("DECONV_OFFLINE")
    assert open_model(PRODUCTION).identity.version == "1"
    monkeypatch.setenv("DECONV_OFFLINE", "1")
    assert open_model(PRODUCTION).notes


def test_registry_whose_files_changed_is_refused(store, bundles, cache):
    register_bundle(bundles[0])
    (kept,) = (p for p in store.rglob("weights.safetensors") if "bundle" in str(p.parent))
    shutil.copytree(bundles[1], kept.parent, dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match="not those that were registered"):
        fetch_cached(PRODUCTION)
    assert not list(cache.rglob("weights.safetensors"))


def test_many_at_once_and_killed_leave_one_whole_model(store, bundles, cache):
    register_bundle(bundles[0])
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db"}
    command = [sys.executable, "-c", FETCH, PRODUCTION]
    running = [subprocess.Popen(command, env=environment) for _ in range(3)]
    deadline = time.monotonic() + 120
    while not list(cache.rglob(".*-download")) and time.monotonic() < deadline:
        time.sleep(0.005)
    running[0].kill()  # perhaps the one in the middle of it
    assert [p.wait() for p in running][1:] == [0, 0]
    folders = [p.parent for p in cache.rglob("manifest.json") if "download" not in str(p)]
    assert len(folders) == 1
    mlflow.set_tracking_uri(environment["MLFLOW_TRACKING_URI"])
    assert fetch_cached(PRODUCTION).folder == folders[0]
    left = list(cache.rglob(".*-download"))
    for folder in left:
        os.utime(folder, (0, 0))
    shutil.rmtree(folders[0])
    fetch_cached(PRODUCTION)
    assert not list(cache.rglob(".*-download"))


def test_place_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("DECONV_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "deconv"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "deconv"
