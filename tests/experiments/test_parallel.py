"""Two processes with half of each batch train what one process with the whole trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deconv.checkpoint import load_checkpoint
from experiments.launch import train_and_report
from experiments.run import BEST, LAST

TORCHRUN = str(Path(sys.executable).with_name("torchrun"))
SETTINGS = {
    "batch_size": 64, "mixtures_per_epoch": 256, "num_epochs": 3, "learning_rate": 1e-3,
    "precision": "float32",
}  # fmt: skip


def torchrun(folder, *arguments):
    command = [TORCHRUN, "--standalone", "--nproc-per-node=2", "-m", "deconv", "train"]
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_two_processes_equal_one(store, client, small_config, atlas_file):
    config = small_config(training=SETTINGS, model={"dropout": 0.0})
    alone = train_and_report(str(config), data=str(atlas_file))
    done = torchrun(store, config, "--data", atlas_file)
    assert done.returncode == 0, done.stderr
    (folder,) = set((store / "runs").iterdir()) - {Path(alone.folder).resolve()}
    assert done.stdout.count("run ") == 1  # one process reports
    for name in (BEST, LAST):
        left, right = (load_checkpoint(f / name).network for f in (alone.folder, folder))
        for expected, actual in zip(left.parameters(), right.parameters(), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-5)
    runs = client.search_runs(
        [client.get_experiment_by_name("sparse-deconvolution").experiment_id]
    )
    assert len(runs) == 2
    losses = [
        [p.value for p in client.get_metric_history(r.info.run_id, "train/loss")] for r in runs
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)

    again = torchrun(store, "--resume", folder)  # finished: nothing left to train
    assert again.returncode == 0, again.stderr


def test_batch_that_cannot_be_shared_is_refused(store, small_config, atlas_file):
    config = small_config(training={**SETTINGS, "batch_size": 49})
    done = torchrun(store, config, "--data", atlas_file)
    assert done.returncode != 0
    assert "got 49; expected a multiple of 2, the number of processes" in done.stderr
    assert not (store / "runs").exists()
