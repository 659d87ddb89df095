"""Who works at which trial: claims counted before work, leases renewed while it lasts.

A trial that is interrupted stays the same trial: it is released, or its lease runs out, and
another worker goes on with its run's folder. All of it is decided under the study's mutex, so
that of many workers one gets a trial, and no trial is begun beyond the budget.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

from optuna.trial import FrozenTrial, Trial, TrialState

from deconv.errors import DeconvError
from experiments.holder import is_gone, process_name
from tuning.lease import LEASE, Lease, lease_of
from tuning.study import Study

REASON = "reason"
_ALLOWED_DEATHS = 1  # of workers between two epochs of a trial; with the next it has failed


class LostError(DeconvError):
    """Another worker has the trial."""


@dataclass
class Claim:
    """A trial that this worker holds, until a moment on the monotonic clock."""

    trial_id: int
    number: int
    lease: Lease
    until: float
    began: float


class Claims:
    """The claims of one worker.

    Parameters
    ----------
    now
        Seconds since 1970; machines may differ by much less than a lease.
    """

    def __init__(
        self, study: Study, *, holder: str | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.study = study
        self.holder = process_name() if holder is None else holder
        self._now = now
        self._seen: dict[int, float] = {}
        self.given_up: dict[int, str] = {}
        """Trials that this worker found dead once too often, and why they failed."""

    def next(self) -> Claim | Literal["wait", "done"]:
        """Claim a trial that waits for a worker, else a new one.

        ``wait``: there may be one soon, of a worker that shows no sign of life. ``done``: what
        is left is in good hands.
        """
        study = self.study
        with study.mutex():
            trials = study.trials()
            running = [t for t in trials if t.state == TrialState.RUNNING]
            if study.is_stopped:
                return "done"
            for trial in running:
                if self._is_free(trial):
                    claim = self._take_over(trial)
                    if claim is not None:
                        return claim
            if study.is_spent(trials, datetime.now()) is None:
                trial_id = study.storage.create_new_trial(study.id)
                number = study.storage.get_trial_number_from_id(trial_id)
                return self._hold(trial_id, number, Lease(self.holder, self._now()))
        silent = [t for t in running if self._may_be_dead(t)]
        return "wait" if silent else "done"

    def renew(self, claim: Claim, *, leaving: bool = False) -> None:
        """Show a sign of life, and whether this worker was asked to leave.

        Raises
        ------
        LostError
            If another worker has the trial.
        """
        begin = time.monotonic()
        with self.study.mutex():
            self._require(claim)
            self._write(claim.trial_id, replace(self._aged(claim), leaving=leaving))
        claim.until = begin + self.study.config.lease_seconds

    def release(self, claim: Claim) -> None:
        """Leave the trial to the next worker; errors as of `renew`."""
        with self.study.mutex():
            self._require(claim)
            self._write(claim.trial_id, replace(self._aged(claim), holder=None))

    def finish(
        self, claim: Claim, state: TrialState, values: list[float] | None, attrs: dict[str, Any]
    ) -> None:
        """End the trial; errors as of `renew`."""
        with self.study.mutex():
            self._require(claim)
            self._end(claim.trial_id, self._aged(claim), state, values, attrs)

    def _end(
        self, trial_id: int, lease: Lease, state: TrialState, values: list[float] | None,
        attrs: dict[str, Any],
    ) -> None:  # fmt: skip
        self._write(trial_id, lease)
        for name, value in attrs.items():
            self.study.storage.set_trial_user_attr(trial_id, name, value)
        number = self.study.storage.get_trial_number_from_id(trial_id)
        self.study.optuna.tell(number, values, state)

    def _hold(self, trial_id: int, number: int, lease: Lease) -> Claim:
        self._write(trial_id, lease)
        now = time.monotonic()
        return Claim(trial_id, number, lease, now + self.study.config.lease_seconds, now)

    def _take_over(self, trial: FrozenTrial) -> Claim | None:
        """Claim a trial whose holder left or died; fail it if holders keep dying."""
        old = lease_of(trial) or Lease(None, 0.0, starts=0)
        deaths, epochs = old.deaths, old.epochs
        if old.holder is not None and not old.leaving:
            epochs = epochs_done(self.study, trial.number)
            deaths = 1 if epochs > old.epochs else deaths + 1
        if deaths > _ALLOWED_DEATHS:
            reason = f"its worker died {deaths} times after epoch {epochs}, last {old.holder}"
            lease = replace(old, holder=None, deaths=deaths)
            self._end(trial._trial_id, lease, TrialState.FAIL, None, {REASON: reason})
            self.given_up[trial.number] = reason
            return None
        lease = Lease(self.holder, self._now(), old.seconds, deaths, old.starts + 1, epochs)
        return self._hold(trial._trial_id, trial.number, lease)

    def _is_free(self, trial: FrozenTrial) -> bool:
        lease = lease_of(trial)
        if lease is None or lease.holder is None:
            return True
        if self._now() - lease.beat > self.study.config.lease_seconds:
            return True
        return lease.holder == self.holder or is_gone(lease.holder)

    def _may_be_dead(self, trial: FrozenTrial) -> bool:
        """Whether a holder has shown no sign of life since this worker looked first."""
        lease = lease_of(trial)
        beat = 0.0 if lease is None else lease.beat
        return self._seen.setdefault(trial.number, beat) == beat

    def _aged(self, claim: Claim) -> Lease:
        seconds = claim.lease.seconds + time.monotonic() - claim.began
        return replace(claim.lease, beat=self._now(), seconds=seconds)

    def _require(self, claim: Claim) -> None:
        trial = self.study.storage.get_trial(claim.trial_id)
        lease = lease_of(trial)
        if (
            trial.state != TrialState.RUNNING
            or lease is None
            or (lease.holder, lease.starts) != (self.holder, claim.lease.starts)
        ):
            raise LostError("another worker has the trial", where=f"trial {claim.number}")

    def _write(self, trial_id: int, lease: Lease) -> None:
        self.study.storage.set_trial_user_attr(trial_id, LEASE, asdict(lease))

    def trial(self, claim: Claim) -> Trial:
        """Return the trial to ask for settings and to report to."""
        self.study.optuna.sampler = self.study.sampler(claim.number)
        return Trial(self.study.optuna, claim.trial_id)


def epochs_done(study: Study, number: int) -> int:
    """Return the epochs that a trial's run has recorded."""
    log = study.run_folder(number) / "training_log.csv"
    return len(log.read_text().splitlines()) - 1 if log.exists() else 0
