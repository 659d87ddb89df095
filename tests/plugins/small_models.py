"""Networks as they start from a small atlas, calibrated, as bundles and in a registry."""

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from deconv.atlas import build_atlas
from deconv.bundle import Bundle, bundle_hash, write_bundle
from deconv.evaluate import draw_mixtures
from deconv.inference import calibrate
from deconv.mixtures import MixingEngine
from deconv.model import ModelConfig, TwoStageNetwork
from deconv.predictor import NetworkMethod
from deconv.splits import split_by_donor
from deconv.trained_range import trained_range
from experiments.names import BUNDLE_HASH, MODEL_NAME


def write_small_bundle(folder, pure, mixture_config, *, called_from=0.5):
    """Write a bundle of `pure`'s training donors, calibrated on another donor."""
    split = split_by_donor(pure, n_validation=1, n_test=1, seed=0)
    atlas = build_atlas(split.train)
    config = ModelConfig(hidden_size=16, intermediate_size=32, presence_threshold=called_from)
    network = TwoStageNetwork(config, atlas, read_effect=mixture_config.read_effect)
    engine = MixingEngine(split.validation, atlas, mixture_config, seed=5, in_atlas=False)
    validation = draw_mixtures(engine, 200)
    provenance = {"run": "a-run", "run_id": "1234", "sha256": {"data": "abcd"}}
    calibration = calibrate(network, validation)
    trained = trained_range(
        NetworkMethod(network, atlas, calibration=calibration), atlas, validation
    )
    write_bundle(folder, Bundle(network, atlas, calibration, provenance, trained=trained))
    return folder


def register_bundle(bundle, *, alias="production", tagged=True, uri=None):
    """Register a bundle as the next version, and let the alias name it; return the version."""
    client = MlflowClient(uri, uri)
    try:
        client.create_registered_model(MODEL_NAME)
        experiment = client.create_experiment("small")
    except MlflowException:
        experiment = client.get_experiment_by_name("small").experiment_id
    run_id = client.create_run(experiment).info.run_id
    client.log_artifacts(run_id, str(bundle), "model/artifacts/bundle")
    tags = {BUNDLE_HASH: bundle_hash(bundle)} if tagged else {}
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    version = client.create_model_version(MODEL_NAME, source, run_id=run_id, tags=tags).version
    if alias is not None:
        client.set_registered_model_alias(MODEL_NAME, alias, version)
    return str(version)
