"""Moves of the aliases `production` and `previous`, each written down before it is made.

A move is two steps, as a registry changes one alias at a time. The ticket of the lease says
beforehand what is to be moved where, so that whoever comes after a kill between the steps
finishes them. At every moment `production` names a version that was verified and passed.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from deconv.errors import ConfigError
from experiments.lease import Lease
from experiments.names import BOOK, MODEL_NAME, PREVIOUS, PRODUCTION

QUALIFIED = "qualified"
"""Tag of a version that met every rule, with the time."""
_STAGE, _FROM, _TO = "stage", "from", "to"
_MOVING, _DONE = "moving", "done"
_NONE = "none"
_ABANDONED = "abandoned"
ROLL_BACK = "roll back"
"""Kind of a move that takes back another."""


@dataclass(frozen=True)
class Move:
    """What became of a ticket: who moved `production` from where to where, when and why."""

    ticket: int
    when: str
    who: str
    why: str
    from_version: str
    to_version: str
    stage: str
    what: str = ""


def alias(client: MlflowClient, name: str) -> str | None:
    """Return the version that an alias names, None if it names none."""
    try:
        return str(client.get_model_version_by_alias(MODEL_NAME, name).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def move_production(client: MlflowClient, lease: Lease, to: str) -> str | None:
    """Make a qualified version production, and what was it `previous`; return the latter.

    Raises
    ------
    ConfigError
        If the version did not qualify.
    LeaseError
        If the lease was lost.
    """
    if QUALIFIED not in client.get_model_version(MODEL_NAME, to).tags:
        raise ConfigError("the version has not met the rules", where=f"{MODEL_NAME} {to}")
    before = alias(client, PRODUCTION)
    lease.note({_FROM: before or _NONE, _TO: to, "when": now(), _STAGE: _MOVING})
    lease.require()
    client.set_registered_model_alias(MODEL_NAME, PRODUCTION, to)
    if before not in (None, to):
        client.set_registered_model_alias(MODEL_NAME, PREVIOUS, before)
    lease.note({_STAGE: _DONE})
    lease.describe(f"{PRODUCTION}: {before or _NONE} -> {to}")
    return before


def withdraw(client: MlflowClient, version: str) -> None:
    """Take back that a version qualified: it cannot be rolled back to then."""
    if QUALIFIED in client.get_model_version(MODEL_NAME, version).tags:
        client.delete_model_version_tag(MODEL_NAME, version, QUALIFIED)


def finish_interrupted(client: MlflowClient, lease: Lease) -> None:
    """Finish, or write off, the moves of those who were killed at it."""
    pending = client.search_model_versions(f"name = '{BOOK}' and tags.{_STAGE} = '{_MOVING}'")
    for ticket in sorted(pending, key=lambda t: int(t.version)):
        before, to = ticket.tags[_FROM], ticket.tags[_TO]
        stage = _ABANDONED
        if alias(client, PRODUCTION) == to:
            lease.require()
            if before not in (_NONE, to):
                client.set_registered_model_alias(MODEL_NAME, PREVIOUS, before)
            stage = _DONE
        client.set_model_version_tag(BOOK, ticket.version, _STAGE, stage)


def moves(client: MlflowClient) -> list[Move]:
    """Return all moves on record, the latest first."""
    tickets = client.search_model_versions(f"name = '{BOOK}'")
    return [_move(t) for t in sorted(tickets, key=lambda t: -int(t.version)) if _STAGE in t.tags]


def rolled_back(client: MlflowClient) -> dict[str, str]:
    """Return the versions that were taken back and not made production since, with the reasons."""
    found: dict[str, str] = {}
    for move in reversed(moves(client)):
        if move.stage == _ABANDONED:
            continue
        found.pop(move.to_version, None)
        if move.what == ROLL_BACK:
            found[move.from_version] = move.why
    return found


def now() -> str:
    """Return the time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _move(ticket: ModelVersion) -> Move:
    tags = ticket.tags
    return Move(
        int(ticket.version), tags.get("when", ""), tags.get("who", ""), tags.get("why", ""),
        tags[_FROM], tags[_TO], tags[_STAGE], tags.get("what", ""),
    )  # fmt: skip
