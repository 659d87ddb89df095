"""What gc deletes, and what it must never delete."""

import time
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import LoggedModelStatus, Metric

from experiments.server.retention import find_waste
from experiments.server.settings import load_settings

DAY = 86_400_000


def model_of(client, run, name="model", *, ready=True):
    model = client.create_logged_model(
        client.get_run(run).info.experiment_id, name=name, source_run_id=run
    )
    folder = Path(model.artifact_location)
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text("x")
    client.log_batch(run, metrics=[Metric("val/mae", 0.1, 1, 1, model_id=model.model_id)])
    status = LoggedModelStatus.READY if ready else LoggedModelStatus.FAILED
    return client.finalize_logged_model(model.model_id, status)


@pytest.fixture
def settings(store):
    return load_settings("embedded")


@pytest.fixture
def run_of(client):
    """Make an ended run with a file to resume from; a parent may be given."""
    experiment = client.create_experiment("gc")

    def make(status="FINISHED", *, age=40, parent=None):
        now = int(time.time() * 1000)
        tags = {} if parent is None else {"mlflow.parentRunId": parent}
        run = client.create_run(experiment, start_time=now - age * DAY, tags=tags).info.run_id
        client.log_metric(run, "val/mae", 0.1)
        client.log_text(run, "state", "checkpoint_last.pt")
        client.log_text(run, "state", "checkpoint_best.pt")
        client.set_terminated(run, status, end_time=now - age * DAY)
        return run

    return make


def kinds(waste):
    return {(item.kind, item.name.split("/")[0]) for item in waste}


def test_old_failed_and_deleted_runs_go_and_no_others(client, settings, run_of):
    failed, deleted = run_of("FAILED"), run_of()
    run_of("FAILED", age=10)
    run_of("KILLED")  # somebody may go on with it
    client.delete_run(deleted)
    waste = find_waste(settings, days=30)
    assert ("run", failed) in kinds(waste)
    assert [item.kind for item in waste].count("run") == 1  # deleted just now
    waste = find_waste(settings, days=-1)
    assert ("run", deleted) in kinds(waste)


def test_command_deletes_rows_and_files_and_dry_run_does_not(client, run_of, deconv, settings):
    failed, finished = run_of("FAILED"), run_of()
    folder = Path(client.get_run(failed).info.artifact_uri)
    status, output, _ = deconv("server", "gc", "--dry-run")
    assert status == 0
    assert f"run    {failed}  (failed)" in output
    assert "2 thing(s) older than 30 days would go" in output
    assert client.get_run(failed).info.status == "FAILED"
    assert (folder / "checkpoint_best.pt").exists()
    status, output, _ = deconv("server", "gc")
    assert status == 0
    assert "2 thing(s) older than 30 days deleted, with 3 files" in output
    with pytest.raises(mlflow.MlflowException, match="not found"):
        client.get_run(failed)
    assert not folder.exists()
    kept = Path(client.get_run(finished).info.artifact_uri)
    assert [p.name for p in kept.iterdir()] == ["checkpoint_best.pt"]
    assert "0 thing(s)" in deconv("server", "gc")[1]
    assert "not in the range" in deconv("server", "gc", "--older-than", "-5")[2]


def test_registered_model_keeps_its_run_and_all_its_files(client, settings, run_of):
    failed, finished = run_of("FAILED"), run_of()
    client.create_registered_model("sparse")
    for run in (failed, finished):
        first, second = model_of(client, run), model_of(client, run)
        # The older one is registered: the newer does not supersede it, and stays too.
        client.create_model_version("sparse", f"models:/{first.model_id}", run_id=run)
        assert second.model_id != first.model_id
    time.sleep(0.01)
    assert not find_waste(settings, days=0)
    by_path = run_of("FAILED")
    uri = client.get_run(by_path).info.artifact_uri
    client.create_model_version("sparse", f"{uri}/model")  # registered by its place only
    assert not find_waste(settings, days=0)


def test_checkpoints_that_a_later_one_supersedes_go(client, settings, run_of):
    run = run_of()
    old, new = model_of(client, run), model_of(client, run)
    other = model_of(client, run, "last")
    broken = model_of(client, run, ready=False)
    time.sleep(0.01)
    found = {i.name: i.why for i in find_waste(settings, days=0) if i.kind == "model"}
    assert found == {old.model_id: f"superseded by {new.model_id}"}
    assert not {new.model_id, other.model_id, broken.model_id} & set(found)
    assert not [i for i in find_waste(settings, days=1) if i.kind == "model"]


def test_failed_parent_of_a_kept_run_stays(settings, run_of):
    parent = run_of("FAILED")
    run_of("FINISHED", parent=parent)
    lonely = run_of("FAILED")
    run_of("FAILED", parent=lonely)
    runs = {name for kind, name in kinds(find_waste(settings, days=30)) if kind == "run"}
    assert parent not in runs
    assert lonely in runs
    assert len(runs) == 2
