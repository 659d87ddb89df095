"""What a study's storage costs a trial: many workers, whose trials take no time."""

import multiprocessing
import time
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from tuning.claims import Claims
from tuning.config import StudyConfig
from tuning.launch import quiet_optuna
from tuning.lease import lease_of
from tuning.study import Study

N_QUICK, N_WORKERS = 500, 16
N_EPOCHS = 12  # that a trial reports, as one of the demo


def storage_cost(folder: Path, name: str, storage: str) -> dict[str, Any]:
    """Let many workers claim and end trials that take no time."""
    study = Study.begin(
        StudyConfig(
            name=f"quick-{name}", base="demo", storage=storage, directory=str(folder / "studies"),
            sampler={"kind": "random"}, pruner={"kind": "none"}, budget={"trials": N_QUICK},
        )
    )  # fmt: skip
    begin = time.perf_counter()
    codes = run_quick_workers(study, N_WORKERS)
    seconds = time.perf_counter() - begin
    trials = study.trials()
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    return {
        "trials": len(complete), "workers": N_WORKERS, "errors": sum(c != 0 for c in codes),
        "twice": sum(lease is None or lease.starts != 1 for lease in map(lease_of, trials)),
        "seconds_per_trial": seconds / max(len(trials), 1),
    }  # fmt: skip


def run_quick_workers(study: Study, n_workers: int) -> list[int | None]:
    """Run workers whose trials take no time; return their exit codes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tuning.worker"])
    workers = [
        context.Process(target=quick_worker, args=(study.folder, n), daemon=True)
        for n in range(n_workers)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [worker.exitcode for worker in workers]


def quick_worker(folder: Path, number: int) -> None:
    """Claim, propose, report, renew and end trials until none is left."""
    quiet_optuna()
    study = Study(folder)
    claims = Claims(study, holder=f"elsewhere:1/{number}/1")
    while True:
        claim = claims.next()
        if claim == "done":
            return
        if claim == "wait":
            time.sleep(0.01)
            continue
        trial = claims.trial(claim)
        value = trial.suggest_float("presence_weight", 0.1, 10, log=True)
        for epoch in range(1, N_EPOCHS + 1):
            trial.report(value, epoch)
        claims.renew(claim)
        claims.finish(claim, TrialState.COMPLETE, [value], {"worker": number})
