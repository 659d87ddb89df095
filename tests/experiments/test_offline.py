"""Training without a server, on a full disk, and what tells where a run comes from."""

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import mlflow
import pytest
import torch
from light_run import Server, artifacts, content

from deconv.checkpoint import load_checkpoint
from deconv.errors import DeconvError
from experiments.launch import train_and_report
from experiments.models import open_model
from experiments.names import BUNDLE_HASH, MODEL_NAME
from experiments.promotion import promote
from experiments.provenance import code_diff, code_tags, environment
from experiments.run import BEST
from experiments.rundir import run_id_of
from experiments.sent import known_run_ids
from experiments.sync import sync_folder

NOWHERE = "http://127.0.0.1:9"


def test_training_without_a_server_gives_the_same_run_after_sync(
    store, client, small_config, atlas_file, deconv, monkeypatch
):
    online = train_and_report(str(small_config()), data=str(atlas_file))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    config = small_config(output={"wait_for_server": 0})
    status, output, error = deconv("train", config, "--data", atlas_file)
    assert status == 0
    assert "run not sent yet" in output
    assert error.count("kept: ") == 1
    (folder,) = set((store / "runs").iterdir()) - {online.folder.resolve()}
    assert f"records kept; send them with: deconv sync {folder.relative_to(store)}" in error
    assert deconv("promote", folder)[2].count("no tracking store knows the run yet") == 1

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert deconv("sync")[0] == 0
    run_id = run_id_of(str(folder), "runs")
    left, right = (load_checkpoint(f / BEST).network.state_dict() for f in (online.folder, folder))
    assert all(torch.equal(left[key], right[key]) for key in left)
    runs = [client.get_run(each) for each in (online.run_id, run_id)]
    assert runs[0].data.metrics == runs[1].data.metrics
    bundles = [r.data.params.pop(BUNDLE_HASH) for r in runs]
    assert bundles[0] != bundles[1]  # each names its own run
    assert runs[0].data.params == runs[1].data.params
    assert runs[0].data.tags.keys() == runs[1].data.tags.keys()
    assert [r.info.status for r in runs] == ["FINISHED"] * 2
    assert artifacts(client, online.run_id) == artifacts(client, run_id)
    for name in runs[0].data.metrics:
        curves = [client.get_metric_history(r.info.run_id, name) for r in runs]
        assert [(p.step, p.value) for p in curves[0]] == [(p.step, p.value) for p in curves[1]]
    # All that promotion and prediction need came along.
    assert promote(run_id).version == "1"
    uri = f"models:/{MODEL_NAME}/1"
    assert mlflow.pyfunc.load_model(uri).metadata.run_id == run_id
    # The bundle was written when no store knew the run; a cache that is offline has it, too.
    assert open_model(str(folder / "bundle")).facts["MLflow run id"] == "unknown"
    assert open_model(uri).facts["MLflow run id"] == run_id
    monkeypatch.setenv("DECONV_OFFLINE", "1")
    assert open_model(uri).facts["MLflow run id"] == run_id


def test_run_tells_where_it_comes_from(store, client, small_config, atlas_file):
    parent = client.create_run("0").info.run_id
    config = small_config(output={"parent_run": parent})
    result = train_and_report(str(config), data=str(atlas_file))
    run = client.get_run(result.run_id)
    assert client.get_parent_run(result.run_id).info.run_id == parent
    files = artifacts(client, result.run_id)
    assert {"config.yaml", "environment.txt"} <= set(files)
    assert ("code.diff" in files) == (run.data.tags["git.dirty"] == "true")
    lines = content(client, result.run_id, "environment.txt").decode().splitlines()
    assert f"torch=={metadata.version('torch')}" in lines

    (output,) = run.outputs.model_outputs
    best = int(result.metrics["best/epoch"])
    assert output.step == best
    model = client.get_logged_model(output.model_id)
    assert model.source_run_id == result.run_id
    assert model.tags["checkpoint"] == BEST
    assert model.tags["epoch"] == str(best)
    found = {metric.key: metric.value for metric in model.metrics}
    assert found["val/mae"] == result.metrics["best/val/mae"]
    assert found["test/mae"] == result.metrics["test/mae"]
    promote(result.run_id)
    version = client.get_model_version(MODEL_NAME, "1")
    assert version.run_id == result.run_id
    assert version.source == model.model_uri


def test_parent_of_the_environment_takes_precedence(
    store, client, small_config, atlas_file, monkeypatch
):
    parents = [client.create_run("0").info.run_id for _ in range(2)]
    monkeypatch.setenv("MLFLOW_PARENT_RUN_ID", parents[1])
    config = small_config(output={"parent_run": parents[0]}, training={"num_epochs": 1})
    result = train_and_report(str(config), data=str(atlas_file))
    assert client.get_run(result.run_id).data.tags["mlflow.parentRunId"] == parents[1]


def test_diff_has_new_and_changed_files_and_applies(tmp_path, monkeypatch):
    from experiments import provenance

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", root, *arguments], check=True, capture_output=True, text=True
        ).stdout

    root = tmp_path / "checkout"
    package = root / "experiments"
    package.mkdir(parents=True)
    own = package / "provenance.py"
    own.write_text("a = 1\n\n\n\n")
    git("init", "-q")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")
    monkeypatch.setattr(provenance, "__file__", str(own))
    assert code_diff() == ""
    assert code_tags()["git.dirty"] == "false"
    own.write_text("a = 2\n\n\n\n")
    (package / "new.py").write_text("b = 1\n")
    (root / "notes.txt").write_text("not code\n")
    diff = code_diff()
    assert code_tags()["git.dirty"] == "true"
    assert "notes" not in diff
    assert git("status", "--porcelain").splitlines() == [
        " M experiments/provenance.py", "?? experiments/new.py", "?? notes.txt",
    ]  # fmt: skip
    git("stash", "--include-untracked")
    (tmp_path / "code.diff").write_text(diff)
    git("apply", str(tmp_path / "code.diff"))
    assert own.read_text() == "a = 2\n\n\n\n"
    assert (package / "new.py").read_text() == "b = 1\n"


def test_environment_is_what_pip_reads():
    lines = environment().splitlines()
    assert f"mlflow=={metadata.version('mlflow')}" in lines
    assert all(line.count("==") == 1 for line in lines)


def test_full_disk_is_one_message_and_the_run_goes_on(
    store, client, small_config, atlas_file, full_disk, deconv
):
    config = small_config(output={"directory": str(full_disk)}, training={"num_epochs": 2})
    status, _, error = deconv("train", config, "--data", atlas_file)
    assert status == 2
    (message,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert "No space left on device" in message
    assert "space to write" in message
    subprocess.run(["mount", "-o", "remount,size=64m", full_disk], check=True)
    (folder,) = [path for path in full_disk.iterdir() if path.is_dir()]
    assert f"deconv train --resume {folder}" in message
    assert deconv("train", "--resume", folder)[0] == 0
    run = client.get_run(known_run_ids(folder)[0])
    assert run.info.status == "FINISHED"
    assert [p.step for p in client.get_metric_history(run.info.run_id, "val/mae")] == [1, 2]


def test_server_that_dies_in_the_middle_is_told_and_caught_up(
    store, small_config, atlas_file, monkeypatch, capsys
):
    server = Server(store, f"sqlite:///{store}/mlflow.db")
    killed = []

    def report(epoch, metrics):
        if epoch == 1 and not killed:
            server.kill()
            killed.append(epoch)

    from experiments.config import load_config
    from experiments.prepare import prepare_run
    from experiments.run import run_training
    from experiments.rundir import RunFolder

    config = load_config(str(small_config(output={"wait_for_server": 0.5})), data=str(atlas_file))
    with server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        prepared = prepare_run(config, torch.device("cpu"))
        result = run_training(prepared, RunFolder.create(config, "small"), report=report)
        error = capsys.readouterr().err
        assert "kept: " in error
        assert "send them with: deconv sync" in error
        server.start()
        server.wait()
        synced = sync_folder(result.folder)
        assert (synced.n_left, synced.problems) == (0, [])
        client = mlflow.MlflowClient(server.uri)
        points = client.get_metric_history(synced.run_id, "val/mae")
        assert [p.step for p in points] == [1, 2, 3]


def test_folder_of_an_earlier_version_is_refused(store, small_config, atlas_file):
    result = train_and_report(str(small_config()), data=str(atlas_file))
    (result.folder / "spool.jsonl").unlink()
    with pytest.raises(DeconvError, match="begun by an earlier version"):
        train_and_report(None, resume=str(result.folder))


TAGS = "from experiments.provenance import code_tags; import json; print(json.dumps(code_tags()))"


def tags_of(folder, path):
    """The tags of code that lies in a folder, told by another process with this PATH."""
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", TAGS], env=environment, cwd=folder, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_checkout_is_no_release_where_git_is_not_on_the_path(tmp_path):
    source, checkout = Path(__file__).parents[2], tmp_path / "checkout"
    checkout.mkdir()
    for name in ("deconv", "experiments", "mlruns_config", "pyproject.toml", "README.md"):
        copy = shutil.copytree if (source / name).is_dir() else shutil.copy
        copy(source / name, checkout / name)
    subprocess.run(["git", "-C", checkout, "init", "-q"], check=True)
    subprocess.run(["git", "-C", checkout, "add", "."], check=True)
    assert tags_of(checkout, os.environ["PATH"])["git.dirty"] == "true"
    found = tags_of(checkout, str(tmp_path))["code.release"]
    assert found == f"git cannot be asked about the checkout {checkout}"
    shutil.rmtree(checkout / ".git")  # as unpacked from an archive, and installed with pip -e
    editable = tags_of(checkout, os.environ["PATH"])["code.release"]
    assert editable == "an editable installation that git does not know"


def test_what_pip_installed_is_a_release_though_there_is_no_git(tmp_path):
    installed = tmp_path / "checkout" / "site-packages"
    for name in ("deconv", "experiments"):
        shutil.copytree(Path(__file__).parents[2] / name, installed / name)
    about = installed / "deconv-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: deconv\nVersion: 0.1.0\n")
    for path in (os.environ["PATH"], str(tmp_path)):
        assert tags_of(installed, path)["code.release"] == "true"
    subprocess.run(["git", "-C", installed.parent, "init", "-q"], check=True)
    assert tags_of(installed, os.environ["PATH"])["code.release"] == "true"
