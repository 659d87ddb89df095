"""Processes that move the alias `production`, for tests that start many and kill some."""

import multiprocessing

import mlflow

from experiments.gates import Policy
from experiments.promotion import promote, rollback

# A process each, forked from one that has imported everything: imports take seconds.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["promoters"])


def start(store, policy, run_id, answers):
    """Start a process that promotes a run, or rolls back if it is None."""
    process = context.Process(target=_move, args=(store, policy.model_dump(), run_id, answers))
    process.start()
    return process


def _move(store, policy, run_id, answers):
    mlflow.set_tracking_uri(store)
    try:
        if run_id is None:
            answer = ("rolled back", *rollback(why="test"))
        else:
            decision = promote(run_id, policy=Policy.model_validate(policy), why="test")
            failed = [v.rule for v in decision.verdicts if not v.passed]
            answer = ("promoted" if decision.promoted else "refused", run_id, failed)
    except Exception as error:  # noqa: BLE001  the test wants to see any
        answer = ("failed", type(error).__name__, str(error))
    if answers is not None:
        answers.put(answer)
