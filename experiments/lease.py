"""One at a time: a lease in the registry itself, for people on different machines.

A registry has no locks, but it numbers the versions of a model without gaps or doubles,
whoever asks at once. So each who wants to move an alias draws a ticket, a version of a
registered model of its own, and the lowest ticket that is open holds the lease (Lamport's
bakery). A holder that died is passed over, at once if it ran on this machine, else when its
ticket has expired. The tickets stay: they are the record of who wanted what, when, and what
became of it.
"""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from deconv.errors import DeconvError
from experiments.holder import is_gone, person_name, process_name

SECONDS = 120.0
"""How long a ticket lasts without renewal; clocks may differ by much less than this."""
_PAUSE = 0.5
_MAX_TEXT = 5000  # characters that the registry's database keeps
_STATE, _EXPIRES, _PROCESS, _DRAW = "state", "expires", "process", "draw"


class LeaseError(DeconvError):
    """The lease was not had, or was lost."""


@dataclass
class Lease:
    """A ticket that holds the lease, until it expires."""

    client: MlflowClient
    book: str
    number: str
    until: float  # on the monotonic clock

    def require(self, seconds: float = 20.0) -> None:
        """Renew the lease for another step that takes at most so long.

        Raises
        ------
        LeaseError
            If it may have expired: another may hold it by now.
        """
        if time.monotonic() + seconds > self.until:
            raise LeaseError(
                "the lease on the aliases has expired", where=f"{self.book} {self.number}",
                expected="the same command again",
            )  # fmt: skip
        self.until = _renew(self.client, self.book, self.number)

    def note(self, tags: Mapping[str, str]) -> None:
        """Write on the ticket what is being done."""
        for name, value in tags.items():
            self.client.set_model_version_tag(self.book, self.number, name, value)

    def describe(self, text: str) -> None:
        """Write on the ticket what became of it; pages of MLflow show 29 characters."""
        self.client.update_model_version(self.book, self.number, description=text[:_MAX_TEXT])


@contextmanager
def held(
    client: MlflowClient,
    book: str,
    *,
    run_id: str,
    why: str,
    what: str = "",
    patience: float = 600.0,
) -> Iterator[Lease]:
    """Hold the lease for a block.

    Parameters
    ----------
    book
        Registered model whose versions are the tickets.
    run_id
        Of the run whose model is concerned: a version must have a source.
    why
        What is to be done, for those who wait and for the record.
    what
        Kind of move, for the record.
    patience
        Seconds to wait for others.

    Raises
    ------
    LeaseError
        If others hold it for so long.
    """
    draw = uuid.uuid4().hex
    number = _draw(client, book, run_id, {"why": why, "what": what}, draw)
    over = Event()
    try:
        until = _wait(client, book, number, draw, time.monotonic() + patience)
        lease = Lease(client, book, number, until)
        Thread(target=_keep, args=(lease, over), daemon=True).start()
        yield lease
    finally:
        over.set()
        # What went wrong matters more; a ticket that stays open expires.
        with suppress(MlflowException):
            client.set_model_version_tag(book, number, _STATE, "closed")


def _keep(lease: Lease, over: Event) -> None:
    """Renew a lease while its holder is at work, for instance at a long evaluation."""
    while not over.wait(SECONDS / 4):
        with suppress(MlflowException):  # not renewed in time, `require` says so
            lease.until = _renew(lease.client, lease.book, lease.number)


def _draw(
    client: MlflowClient, book: str, run_id: str, about: Mapping[str, str], draw: str
) -> str:
    make_book(client, book)
    tags = {
        _STATE: "open",
        _EXPIRES: str(_milliseconds() + int(1000 * SECONDS)),
        _PROCESS: process_name(),
        "who": person_name(),
        **{name: text for name, text in about.items() if text or name == "why"},
        _DRAW: draw,
    }
    drawn = client.create_model_version(book, f"runs:/{run_id}/model", run_id=run_id, tags=tags)
    return str(drawn.version)


def make_book(client: MlflowClient, book: str) -> None:
    """Make the registered model of the tickets, if it is not there."""
    with unless_there():
        client.create_registered_model(
            book, description="Who moved the aliases, when, and why. Do not delete."
        )


@contextmanager
def unless_there() -> Iterator[None]:
    """Pass over that something exists already."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _wait(client: MlflowClient, book: str, number: str, draw: str, deadline: float) -> float:
    """Return until when the lease holds, on the monotonic clock."""
    while True:
        until = _renew(client, book, number)
        before = [t for t in open_tickets(client, book) if int(t.version) < int(number)]
        # MLflow's client asks again where an answer was lost, and so may draw twice.
        for ticket in [t for t in before if t.tags.get(_DRAW) == draw]:
            client.set_model_version_tag(book, ticket.version, _STATE, "closed")
            before.remove(ticket)
        if not before:
            return until
        if time.monotonic() > deadline:
            first = min(before, key=lambda t: int(t.version))
            raise LeaseError(
                "others are moving the aliases", where=f"{book} {first.version}",
                got=f"{first.tags.get('who')}: {first.tags.get('why')}", expected="a try later",
            )  # fmt: skip
        time.sleep(_PAUSE)


def _renew(client: MlflowClient, book: str, number: str) -> float:
    begin = time.monotonic()
    expires = _milliseconds() + int(1000 * SECONDS)
    client.set_model_version_tag(book, number, _EXPIRES, str(expires))
    return begin + SECONDS


def open_tickets(client: MlflowClient, book: str) -> list[ModelVersion]:
    """Return the tickets whose holders are at work or wait, as far as one can know."""
    now = _milliseconds()
    found = client.search_model_versions(f"name = '{book}' and tags.{_STATE} = 'open'")
    current = [t for t in found if int(t.tags.get(_EXPIRES, "0")) > now]
    return [t for t in current if not is_gone(t.tags.get(_PROCESS, ""))]


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
