"""Killed runs go on where they stopped, with the result of runs that were not killed."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from deconv.checkpoint import load_checkpoint
from deconv.errors import ConfigError
from experiments.launch import train_and_report
from experiments.run import BEST, LAST
from experiments.sent import known_run_ids

DECONV = str(Path(sys.executable).with_name("deconv"))
LONG = {"num_epochs": 12, "batch_size": 16, "mixtures_per_epoch": 640}


def start(store, config, data=None):
    """Start a run, or resume one, in a process of its own."""
    arguments = (
        [str(config), str(data)] if config == "--resume" else [str(config), "--data", str(data)]
    )
    return subprocess.Popen(
        [DECONV, "train", *arguments], cwd=store, stderr=subprocess.PIPE, text=True
    )


def kill(process):
    assert process.poll() is None, process.stderr.read()
    process.kill()
    process.communicate()


def wait_for_epochs(store, n, besides=frozenset()):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for record in store.glob("runs/*/spool.jsonl"):
            n_epochs = record.read_text().count('"kind":"metrics"')
            if record.parent not in besides and n_epochs >= n:
                return record.parent
        time.sleep(0.005)
    raise TimeoutError(f"no run reached epoch {n}")


def weights(folder, name):
    return load_checkpoint(folder / name).network.state_dict()


def test_run_killed_twice_equals_one_that_was_not(store, client, small_config, atlas_file, deconv):
    config = small_config(training=LONG)
    straight = train_and_report(str(config), data=str(atlas_file))
    known = set((store / "runs").iterdir())

    process = start(store, config, atlas_file)
    folder = wait_for_epochs(store, 2, besides=known)
    kill(process)
    process = start(store, "--resume", folder.name)
    wait_for_epochs(store, 4, besides=known)
    kill(process)
    assert load_checkpoint(folder / LAST).epoch < 12
    status, _, _ = deconv("train", config, "--data", atlas_file, "--resume", folder.name)
    assert status == 0

    for name in (BEST, LAST):
        left, right = weights(straight.folder, name), weights(folder, name)
        assert all(torch.equal(left[key], right[key]) for key in left)
    (run_id,) = known_run_ids(folder)
    assert client.get_run(run_id).info.status == "FINISHED"
    for name in ("train/loss", "val/mae"):
        expected = client.get_metric_history(straight.run_id, name)
        actual = client.get_metric_history(run_id, name)
        assert [(p.step, p.value) for p in actual] == [(p.step, p.value) for p in expected]
    table = [(f / "training_log.csv").read_text() for f in (straight.folder, folder)]
    assert table[0] == table[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_says_how_to_go_on(store, client, small_config, atlas_file, number):
    process = start(store, small_config(training=LONG), atlas_file)
    folder = wait_for_epochs(store, 2)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"deconv train --resume {folder.relative_to(store)}" in error
    assert "Traceback" not in error
    run = client.search_runs([client.get_experiment_by_name("sparse-deconvolution").experiment_id])
    assert run[0].info.status == "KILLED"


def test_two_processes_cannot_work_on_one_run(store, small_config, atlas_file, deconv):
    process = start(store, small_config(training={**LONG, "num_epochs": 500}), atlas_file)
    try:
        folder = wait_for_epochs(store, 1)
        status, _, error = deconv("train", "--resume", folder)
    finally:
        process.kill()
        process.communicate()
    assert status == 2
    assert "another process is at this run" in error


def test_finished_run_resumes_to_the_same_end(store, client, small_config, atlas_file):
    result = train_and_report(str(small_config()), data=str(atlas_file))
    again = train_and_report(None, resume=result.run_id)
    assert again == result
    assert len(client.get_metric_history(result.run_id, "test/mae")) == 1
    assert (
        len(client.search_logged_models([client.get_run(result.run_id).info.experiment_id])) == 1
    )


def test_resume_refuses_another_configuration_or_other_data(
    store, small_config, atlas_file, tmp_path
):
    result = train_and_report(str(small_config()), data=str(atlas_file))
    with pytest.raises(ConfigError, match=r"loss.presence_weight differs.*got 2.*expected 1\.0"):
        train_and_report(
            str(small_config()), data=str(atlas_file), resume=str(result.folder),
            overrides=["loss.presence_weight=2"],
        )  # fmt: skip
    with pytest.raises(ConfigError, match="no such run"):
        train_and_report(None, resume="nonsense")
    with pytest.raises(ConfigError, match="no configuration"):
        train_and_report(None, overrides=["loss.presence_weight=2"], resume=str(result.folder))


def test_run_goes_on_from_another_folder_and_where_its_data_lie_now(
    store, client, small_config, atlas_file, tmp_path, monkeypatch, deconv
):
    shutil.copy(atlas_file, "own.h5ad")
    config = small_config()
    result = train_and_report(str(config), data="own.h5ad")
    path = str(tmp_path / "own.h5ad")
    assert client.get_run(result.run_id).data.params["data.path"] == path
    folder = tmp_path / result.folder
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert deconv("train", "--resume", folder)[0] == 0
    assert deconv("train", config, "--resume", folder)[0] == 0  # it does not say where they lie
    shutil.move(path, "moved.h5ad")
    status, _, error = deconv("train", "--resume", folder)
    assert status == 2
    assert f"the run's data are not there; got {path}; expected --data" in error
    for data in ("moved.h5ad", Path("moved.h5ad").absolute()):
        for configuration in ([], [config]):
            arguments = [*configuration, "--data", data, "--resume", folder]
            assert deconv("train", *arguments)[0] == 0
    assert known_run_ids(folder) == [result.run_id]


def test_resume_refuses_changed_data(store, small_config, tmp_path):
    from deconv.errors import MismatchError
    from deconv.simulate import simulate_atlas

    path = tmp_path / "own.h5ad"

    def simulate(seed):
        simulate_atlas(
            path, n_regions=100, n_donors=3, depth=50, seed=seed, tissues=("Blood", "b", "c", "d")
        )

    simulate(1)
    result = train_and_report(str(small_config()), data=str(path))
    simulate(2)
    with pytest.raises(MismatchError, match="the data changed since the run began"):
        train_and_report(None, resume=str(result.folder))
