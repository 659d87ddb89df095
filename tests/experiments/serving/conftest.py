"""A model, as a bundle and as MLflow's own format, and a server of each kind."""

import shutil

import pytest
from scoring import ScoringServer

from deconv.bundle import Bundle, write_bundle
from deconv.evaluate import draw_mixtures
from deconv.inference import calibrate
from deconv.model import ModelConfig, TwoStageNetwork
from deconv.store import write_h5ad
from experiments.mlflow_model import model_files

MAX_SAMPLES = 20


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory, atlas, unseen, mixture_config):
    """A folder with ``bundle``, ``mlflow`` (the same as MLflow's model) and ``samples.h5ad``."""
    folder = tmp_path_factory.mktemp("served")
    config = ModelConfig(hidden_size=16, intermediate_size=16)
    network = TwoStageNetwork(config, atlas, read_effect=mixture_config.read_effect).eval()
    calibration = calibrate(network, draw_mixtures(unseen, 60))
    write_bundle(folder / "bundle", Bundle(network, atlas, calibration))
    for place, path in model_files(folder, "bundle").items():
        target = folder / "mlflow" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / path, target)
    samples = draw_mixtures(unseen, 12)
    samples.coverage[0, ::2] = samples.methylated[0, ::2] = 0
    samples.coverage[0, 40:] = samples.methylated[0, 40:] = 0  # tissues are not assessable
    write_h5ad(samples, folder / "samples.h5ad")
    return folder


@pytest.fixture(scope="session")
def ours(served_folder):
    """`deconv serve` of the bundle, for requests of at most 200 kB and 20 samples."""
    options = ("--max-mb", 0.2, "--max-samples", MAX_SAMPLES)
    command = ("deconv", "serve", "--model", served_folder / "bundle", *options)
    with ScoringServer(served_folder, *command) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="session")
def plain(served_folder):
    """`mlflow models serve` of the model."""
    command = ("mlflow", "models", "serve", "-m", served_folder / "mlflow")
    with ScoringServer(served_folder, *command, "--env-manager", "local") as server:
        yield server
