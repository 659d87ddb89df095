"""No trial is begun twice or beyond the budget, and none is lost, whatever becomes of workers."""

import subprocess
import sys
import time
from datetime import datetime

import pytest
from optuna.trial import TrialState

from experiments.holder import is_gone, process_name
from tuning.claims import Claims, LostError
from tuning.lease import lease_of
from tuning.storage_benchmark import run_quick_workers
from tuning.study import Study

LEASE = 60.0


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture(params=["journal", "postgres"])
def study(request, begin):
    storage = "journal" if request.param == "journal" else request.getfixturevalue("database")
    return begin(storage=storage, budget={"trials": 2}, lease_seconds=LEASE)


def test_trials_are_counted_when_they_begin(study):
    one, two = (Claims(study, holder=f"elsewhere:1/{n}/1") for n in (1, 2))
    first, second = one.next(), two.next()
    assert [first.number, second.number] == [0, 1]
    third = Claims(study, holder="elsewhere:1/3/1")
    assert third.next() == "wait"
    two.renew(second)
    one.renew(first)
    assert third.next() == "done"  # both are alive
    one.finish(first, TrialState.COMPLETE, [1.0], {"threshold": 0.5})
    assert one.next() == "wait"
    two.renew(second)
    assert one.next() == "done"
    assert [t.state.name for t in study.trials()] == ["COMPLETE", "RUNNING"]


def test_released_trial_goes_to_another_worker(study):
    clock = Clock()
    one, two = (Claims(study, holder=f"elsewhere:1/{n}/1", now=clock) for n in (1, 2))
    claim = one.next()
    one.release(claim)
    again = two.next()
    assert again.number == claim.number
    assert lease_of(study.trials()[0]).starts == 2
    assert lease_of(study.trials()[0]).deaths == 0
    with pytest.raises(LostError, match="another worker has the trial"):
        one.finish(claim, TrialState.COMPLETE, [1.0], {})
    with pytest.raises(LostError):
        one.renew(claim)


def test_silent_worker_loses_its_trial_once_then_the_trial_fails(study):
    clock = Clock()
    workers = [Claims(study, holder=f"elsewhere:1/{n}/1", now=clock) for n in range(4)]
    assert workers[0].next().number == 0
    clock.now += LEASE - 1
    assert workers[1].next().number == 1
    clock.now += 2
    assert workers[2].next().number == 0
    assert lease_of(study.trials()[0]).deaths == 1
    clock.now += LEASE + 1
    assert workers[3].next().number == 1  # and trial 0 has failed on the way
    failed = study.trials()[0]
    assert failed.state == TrialState.FAIL
    reason = "its worker died 2 times after epoch 0, last elsewhere:1/2/1"
    assert failed.user_attrs["reason"] == reason


def test_trial_that_advances_between_deaths_is_not_to_blame(study):
    clock = Clock()
    log = study.run_folder(0) / "training_log.csv"
    log.parent.mkdir()
    for n in range(4):
        assert Claims(study, holder=f"elsewhere:1/{n}/1", now=clock).next().number == 0
        log.write_text("epoch\n" + "".join(f"{epoch}\n" for epoch in range(1, n + 2)))
        clock.now += LEASE + 1
    assert lease_of(study.trials()[0]).deaths == 1


def test_worker_killed_after_it_was_asked_to_leave_is_no_death(study):
    clock = Clock()
    for n in range(3):
        worker = Claims(study, holder=f"elsewhere:1/{n}/1", now=clock)
        claim = worker.next()
        assert claim.number == 0
        worker.renew(claim, leaving=True)
        clock.now += LEASE + 1
    assert lease_of(study.trials()[0]).deaths == 0


def test_worker_that_died_here_is_known_at_once(study):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    name = process_name(sleeper.pid)
    try:
        assert not is_gone(name)
        assert Claims(study, holder=name).next().number == 0
        assert Claims(study).next().number == 1
    finally:
        sleeper.kill()
    while not is_gone(name):  # before it is waited for: a zombie works no more
        time.sleep(0.01)
    sleeper.wait()
    assert is_gone(name)
    assert Claims(study, holder="elsewhere:1/9/1").next().number == 0
    assert not is_gone("elsewhere:1/9/1")


def test_worker_that_died_as_it_began_a_trial(study):
    study.storage.create_new_trial(study.id)
    assert Claims(study).next().number == 0


def test_stopped_and_extended_study(study):
    claims = Claims(study, holder="elsewhere:1/1/1")
    first = claims.next()
    study.set_stopped(True)
    assert claims.next() == "done"
    claims.release(first)
    study.set_stopped(False)
    assert claims.next().number == 0
    assert claims.next().number == 0  # its own: it forgot it, as after a crash
    study.set_budget(study.budget.model_copy(update={"trials": 3}))
    assert Study(study.folder).budget.trials == 3


def test_budget_in_hours_and_of_failures(begin):
    study = begin(budget={"trials": 100, "gpu_hours": 1.0})
    study.set_gpus_per_worker(0.5)
    claims = Claims(study)
    claim = claims.next()
    claim.began -= 3 * 3600
    claims.finish(claim, TrialState.COMPLETE, [1.0], {})
    assert study.gpu_hours(study.trials()) == pytest.approx(1.5, rel=1e-3)
    assert claims.next() == "done"
    assert study.is_finished()
    other = begin(name="other", budget={"trials": 100})
    claims = Claims(other)
    for _ in range(3):
        claims.finish(claims.next(), TrialState.FAIL, None, {"reason": "no such data"})
    assert claims.next() == "done"
    spent = other.is_spent(other.trials(), datetime.now())
    assert spent == "all trials failed, the last of: no such data"
    other.forgive_failures()
    assert claims.next().number == 3


@pytest.mark.parametrize(
    ("kind", "n_trials", "n_workers"),
    [
        ("journal", 40, 4),
        ("postgres", 40, 4),
        pytest.param("journal", 500, 16, marks=pytest.mark.slow),
        pytest.param("postgres", 500, 16, marks=pytest.mark.slow),
    ],
)
def test_many_workers_begin_each_trial_once(begin, request, kind, n_trials, n_workers):
    storage = "journal" if kind == "journal" else request.getfixturevalue("database")
    study = begin(storage=storage, budget={"trials": n_trials}, sampler={"kind": "random"})
    assert run_quick_workers(study, n_workers) == [0] * n_workers
    trials = study.trials()
    assert [t.number for t in trials] == list(range(n_trials))
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    assert all(lease_of(t).starts == 1 for t in trials)
    assert len({t.values[0] for t in trials}) == n_trials  # each has a proposal of its own
