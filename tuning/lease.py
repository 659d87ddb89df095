"""The lease on a trial, kept with it in the study's storage."""

from dataclasses import dataclass

from optuna.trial import FrozenTrial

LEASE = "lease"


@dataclass(frozen=True)
class Lease:
    """Who holds a trial (nobody: it waits), since when, and what it has cost."""

    holder: str | None
    beat: float
    """Seconds since 1970 of the last sign of life."""
    seconds: float = 0.0
    """Worked at it, by all holders."""
    deaths: int = 0
    """Of holders, since the trial last did an epoch."""
    starts: int = 1
    epochs: int = 0
    """Done when the last holder died."""
    leaving: bool = False
    """Whether the holder was asked to leave: if it is then killed, the trial is not to blame."""


def lease_of(trial: FrozenTrial) -> Lease | None:
    """Return a trial's lease, None for one whose worker died as it began."""
    saved = trial.user_attrs.get(LEASE)
    return None if saved is None else Lease(**saved)
