"""Processes that move the alias `production`, for tests that start many and kill some."""

import multiprocessing
import os
import signal
import threading

import mlflow
import requests

from deconv.errors import DeconvError
from experiments.gates import Policy
from experiments.promotion import promote, rollback

# A process each, forked from one that has imported everything: imports take seconds.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["promoters"])


def start(store, policy, run_id, answers=None, *, kill=None, twice=False):
    """Start a process that promotes a run, or rolls back if it is None.

    ``kill`` is a number of changes of the registry, and the process group to kill with -9 as soon
    as so many are made: 0 is the process itself. ``twice``: each change is asked for twice, as by
    a client that lost the first answer. The process puts what became of it into ``answers``, and
    exits with 1 if that was an error for people, with more if it was another.
    """
    process = context.Process(
        target=_move, args=(store, policy.model_dump(), run_id, answers, kill, twice)
    )
    process.start()
    return process


def _move(store, policy, run_id, answers, kill, twice):
    mlflow.set_tracking_uri(store)
    if kill is not None or twice:
        _watch_changes(kill, twice)
    status = 0
    try:
        if run_id is None:
            answer = ("rolled back", *rollback(why="test"))
        else:
            decision = promote(run_id, policy=Policy.model_validate(policy), why="test")
            failed = [v.rule for v in decision.verdicts if not v.passed]
            answer = ("promoted" if decision.promoted else "refused", run_id, failed)
    except Exception as error:  # noqa: BLE001  the test wants to see any
        answer = ("failed", type(error).__name__, str(error))
        status = 1 if isinstance(error, DeconvError) else 2
    if answers is not None:
        answers.put(answer)
        answers.close()
        answers.join_thread()
    os._exit(status)


def _watch_changes(kill, twice):
    """Count the requests that change the registry, where they leave this process."""
    send, lock, n_made = requests.Session.send, threading.Lock(), 0

    def counted(session, request, **options):
        nonlocal n_made
        answer = send(session, request, **options)
        if request.method == "GET":
            return answer
        if twice:
            answer = send(session, request, **options)
        with lock:
            n_made += 1
            if kill is not None and n_made == kill[0]:
                if kill[1]:
                    os.killpg(kill[1], signal.SIGKILL)
                else:
                    os.kill(os.getpid(), signal.SIGKILL)
        return answer

    requests.Session.send = counted
