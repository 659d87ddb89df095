"""Who may do what on a server with passwords: read, train, promote, or nothing."""

from pathlib import Path

import mlflow
import pytest
import requests
import yaml
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from deconv.evaluate import draw_mixtures
from deconv.store import write_h5ad
from experiments.fetch import fetch_model
from experiments.gates import load_policy
from experiments.names import BOOK, MODEL_NAME

PASSWORD = "a-password-of-this-test"
PRODUCTION = f"models:/{MODEL_NAME}@production"
LACKS = "the user lacks the permission; got {}; expected MLFLOW_TRACKING_USERNAME and _PASSWORD"


@pytest.fixture
def log_in(production_client, secrets, tmp_path):
    """Be another user for the rest of the test."""

    def be(name, password=PASSWORD):
        secrets.setenv("MLFLOW_TRACKING_USERNAME", name)
        secrets.setenv("MLFLOW_TRACKING_PASSWORD", password)

    secrets.chdir(tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        secrets.delenv(name)
    mlflow.set_tracking_uri(None)
    return be


@pytest.fixture
def people(log_in, deconv, secrets):
    """Users whom the admin let in."""
    secrets.setenv("DECONV_USER_PASSWORD", PASSWORD)
    for access in ("read", "train", "promote"):
        name = access.removesuffix("e") + "er"
        status, output, error = deconv("server", "user", name, "--may", access)
        assert (status, error) == (0, "")
        assert output.startswith(f"{name} may {access}")
    secrets.delenv("DECONV_USER_PASSWORD")
    return log_in


@pytest.fixture
def gates(tmp_path):
    """A file of rules that any sparse model meets."""
    content = load_policy().model_dump(mode="json", exclude={"sha256"}, exclude_none=True)
    content["metrics"] = {"test/mae": {"max": 0.5}}
    content["lineage"]["allow_changed_code"] = True
    content["test"]["min_samples"] = 40
    (tmp_path / "gates.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "gates.yaml"


@pytest.fixture
def trained(people, production_client, small_config, atlas_file, deconv):
    """A run of the user who may train, and no production yet."""
    people("trainer")
    config = small_config(training={"num_epochs": 1})
    status, _, error = deconv(
        "train", config, "--data", atlas_file, "--set", "data.test_mixtures=40"
    )
    assert status == 0, error
    experiment = production_client.get_experiment_by_name("sparse-deconvolution")
    (run, *_) = production_client.search_runs(
        [experiment.experiment_id], "tags.mlflow.user != ''", order_by=["start_time DESC"]
    )
    return run.info.run_id


def refused(answer):
    """The one line of a command that failed."""
    status, _, error = answer
    assert status == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def registry_state():
    client = MlflowClient()
    found = client.get_registered_model(MODEL_NAME)
    versions = client.search_model_versions(f"name = '{MODEL_NAME}'")
    return (
        found.description, found.aliases,
        sorted((v.version, v.description, tuple(sorted(v.tags.items()))) for v in versions),
        len(client.search_model_versions(f"name = '{BOOK}'")),
    )  # fmt: skip


def refuse_files_by_any_path(run, address):
    """A reader cannot write into a run or a model by naming its place in another way."""
    root = run.info.artifact_uri.removeprefix("mlflow-artifacts:/")
    assert root.startswith(f"{run.info.experiment_id}/")
    for path in (
        f"{root}/summary_stats.csv", f"{run.info.experiment_id}/models/x/artifacts/weights",
        f"./{root}/summary_stats.csv", f"0/../{root}/summary_stats.csv",
        f"%2e/{root}/summary_stats.csv", f"/{root}/summary_stats.csv",
    ):  # fmt: skip
        request = requests.Request(
            "PUT", "http://x", data=b"planted", auth=("reader", PASSWORD)
        ).prepare()
        # As it is: the library would tidy the path up.
        request.url = f"{address}/api/2.0/mlflow-artifacts/artifacts/{path}"
        with requests.Session() as session:
            assert session.send(request, timeout=30).status_code in (400, 403, 404), path
    stats = Path(MlflowClient().download_artifacts(run.info.run_id, "summary_stats.csv"))
    assert "planted" not in stats.read_text()


def test_reader_uses_production_and_can_change_nothing(
    trained, people, gates, deconv, unseen, tmp_path, production
):
    write_h5ad(draw_mixtures(unseen, 3), tmp_path / "samples.h5ad")
    promote = ("promote", trained, "--gates", gates)
    for name in ("reader", "trainer"):
        people(name)
        assert f"cannot promote: {LACKS.format(name)}" in refused(deconv(*promote))
        status, output, _ = deconv(*promote, "--dry-run")
        assert (status, f"would be promoted: run {trained}" in output) == (0, True), output
    people("promoter")
    status, output, error = deconv(*promote)
    assert (status, f"{PRODUCTION} is this model now" in output) == (0, True), error

    people("reader")
    before = registry_state()
    assert deconv("predict", "samples.h5ad", "--model", PRODUCTION, "-o", "out.csv")[0] == 0
    status, output, _ = deconv("models")
    assert (status, "production" in output) == (0, True)
    assert f"cannot roll back: {LACKS.format('reader')}" in refused(deconv("rollback"))
    client = MlflowClient()
    version = client.get_model_version_by_alias(MODEL_NAME, "production")
    at = (MODEL_NAME, version.version)
    for change in (
        lambda: client.set_registered_model_alias(MODEL_NAME, "production", version.version),
        lambda: client.delete_registered_model_alias(MODEL_NAME, "production"),
        lambda: client.set_model_version_tag(*at, "qualified", "yes"),
        lambda: client.delete_model_version_tag(*at, "verdicts"),
        lambda: client.update_model_version(*at, "the best"),
        lambda: client.delete_model_version(*at),
        lambda: client.update_registered_model(MODEL_NAME, "ours"),
        lambda: client.set_registered_model_tag(MODEL_NAME, "a", "b"),
        lambda: client.rename_registered_model(MODEL_NAME, "ours"),
        lambda: client.delete_registered_model(MODEL_NAME),
        lambda: client.create_model_version(MODEL_NAME, version.source, trained),
        lambda: client.create_model_version(BOOK, version.source, trained),
        lambda: client.delete_run(trained),
        lambda: client.set_tag(trained, "git.dirty", "false"),
        lambda: client.log_metric(trained, "test/mae", 0.0),
        lambda: client.delete_logged_model(version.source.removeprefix("models:/")),
        lambda: client.log_text(trained, "sample,tissue\n", "summary_stats.csv"),
    ):
        with pytest.raises((MlflowException, requests.HTTPError), match=r"403|ermission"):
            change()
    assert registry_state() == before
    refuse_files_by_any_path(client.get_run(trained), production.started.address)
    assert (fetch_model(PRODUCTION) / "weights.safetensors").stat().st_size > 1000
    people("promoter")
    for forbidden in (
        lambda: client.delete_model_version(*at),
        lambda: client.delete_registered_model_alias(MODEL_NAME, "production"),
    ):
        with pytest.raises(MlflowException, match=r"403|ermission"):
            forbidden()


@pytest.mark.parametrize(
    ("name", "password"), [("reader", "wrong"), ("nobody", "wrong"), (None, None)]
)
def test_strangers_see_nothing_and_are_told_why(
    people, production, secrets, deconv, gates, unseen, tmp_path, name, password
):
    write_h5ad(draw_mixtures(unseen, 3), tmp_path / "samples.h5ad")
    if name is None:
        secrets.delenv("MLFLOW_TRACKING_USERNAME")
        secrets.delenv("MLFLOW_TRACKING_PASSWORD")
    else:
        people(name, password)
    for command in (
        ("models",), ("rollback",), ("promote",), ("promote", "0" * 32, "--dry-run"),
        ("predict", "samples.h5ad", "--model", PRODUCTION),
        ("server", "user", "friend", "--may", "promote"),
    ):  # fmt: skip
        error = refused(deconv(*command))
        assert f"no such user, or a wrong password; got {name or 'no name'}; expected" in error


def test_only_the_admin_lets_users_in_and_takes_what_was_given(
    people, log_in, deconv, secrets, production
):
    secrets.setenv("DECONV_USER_PASSWORD", PASSWORD)
    log_in("promoter")
    for who in ("friend", "promoter"):
        error = refused(deconv("server", "user", who, "--may", "promote"))
        assert LACKS.format("promoter") in error
    log_in("admin", "correct-horse-battery")
    secrets.delenv("DECONV_USER_PASSWORD")
    error = refused(deconv("server", "user", "friend", "--may", "read"))
    assert "the password of friend is not set" in error
    assert deconv("server", "user", "promoter", "--may", "read")[:2] == (0, "promoter may read\n")
    log_in("promoter")
    with pytest.raises(MlflowException, match="ermission"):
        MlflowClient().set_registered_model_tag(MODEL_NAME, "a", "b")
    log_in("admin", "correct-horse-battery")
    assert deconv("server", "user", "promoter", "--may", "promote")[0] == 0
    log_in("promoter")
    MlflowClient().set_registered_model_tag(MODEL_NAME, "a", "b")
    secrets.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    error = refused(deconv("server", "user", "friend", "--may", "read"))
    assert "users are of a server" in error
