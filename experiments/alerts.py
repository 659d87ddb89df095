"""Alerts of a run: it diverged, stalled or met its target. Off unless told where to send them.

Each event is recorded once in the run's spool and delivered in the background, after a resume
too; what cannot be delivered is tried again while the run lasts, and never stops it.
"""

import json
import mailbox
import math
import operator
import os
import re
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, PositiveInt, field_validator

from deconv.configuration import Section
from deconv.errors import DeconvError
from deconv.files import write_text
from deconv.train import Metrics
from experiments.spool import Entry

DELIVERED = "alerts.json"
_TARGET = re.compile(r"\s*(\S+)\s*(<=|>=)\s*(\S+)\s*")
_COMPARE = {"<=": operator.le, ">=": operator.ge}
_SECONDS = 10.0  # for a webhook to answer


class AlertConfig(Section):
    """Where alerts go and what raises them.

    ``webhook`` gets a JSON object by POST (``text`` as chat services read it, ``event``,
    ``epoch``, ``run``, ``run_id``); ``$NAME`` in it is an environment variable, for a URL that is
    a secret. ``mail`` is a file in mbox format. ``diverged``: the loss is not finite or so many
    times the smallest so far. ``stalled``: no smaller loss for so many epochs. ``target``: such
    as ``val/mae <= 0.01``. The loss is that of validation.
    """

    webhook: str | None = None
    mail: Path | None = None
    diverged: float = Field(10.0, gt=1)
    stalled: PositiveInt | None = None
    target: str | None = None

    @field_validator("webhook")
    @classmethod
    def _is_address(cls, webhook: str | None) -> str | None:
        if webhook is not None and "$" not in webhook:
            parts = urlsplit(webhook)
            is_web = parts.scheme in ("http", "https") and parts.hostname
            if not is_web or not webhook.isprintable() or " " in webhook:
                raise ValueError("not an address that begins with http:// or https://")
        return webhook

    @field_validator("target")
    @classmethod
    def _is_comparison(cls, target: str | None) -> str | None:
        if target is not None:
            _parse(target)
        return target

    @property
    def is_on(self) -> bool:
        """Whether alerts go anywhere."""
        return self.webhook is not None or self.mail is not None


def _parse(target: str) -> tuple[str, Callable[[float, float], bool], float]:
    found = _TARGET.fullmatch(target)
    if found is None:
        raise ValueError("not a comparison such as val/mae <= 0.01")
    return found[1], _COMPARE[found[2]], float(found[3])


@dataclass(frozen=True)
class Alert:
    """An event, in words, and the epoch at which it was noticed."""

    event: str
    message: str
    epoch: int


def new_alerts(config: AlertConfig, points: Mapping[int, Metrics]) -> Iterator[Alert]:
    """Yield what is the matter at the last epoch.

    Parameters
    ----------
    points
        Metrics by epoch; epochs without validation have no ``val/loss``.
    """
    epoch = max(points)
    now = points[epoch]
    losses = {n: points[n]["val/loss"] for n in sorted(points) if "val/loss" in points[n]}
    bad = [name for name, value in now.items() if name.endswith("/loss") and not _finite(value)]
    if bad:
        yield Alert("diverged", f"{bad[0]} is not finite at epoch {epoch}", epoch)
    elif epoch in losses:
        best = min(losses, key=lambda n: losses[n] if _finite(losses[n]) else math.inf)
        if 0 < losses[best] * config.diverged < losses[epoch]:
            message = f"val/loss is {losses[epoch]:.4g} at epoch {epoch}, was {losses[best]:.4g}"
            yield Alert("diverged", message, epoch)
        if config.stalled is not None and epoch - best >= config.stalled:
            message = f"no smaller val/loss since epoch {best} ({losses[best]:.4g})"
            yield Alert("stalled", f"{message}, now epoch {epoch}", epoch)
    if config.target is not None:
        name, is_met, value = _parse(config.target)
        if name in now and is_met(now[name], value):
            yield Alert("target", f"{name} is {now[name]:.4g} at epoch {epoch}", epoch)


def _finite(value: float) -> bool:
    return math.isfinite(value)


class AlertDelivery:
    """Sends the alerts of a record that were not sent yet, to each place."""

    def __init__(
        self,
        config: AlertConfig,
        folder: Path,
        entries: Sequence[Entry],
        run_id: Callable[[], str],
    ) -> None:
        self._folder, self._entries, self._run_id = folder, entries, run_id
        self._file = folder / DELIVERED
        self._places: dict[str, Callable[[dict[str, Any]], None]] = {}
        if config.webhook is not None:
            url = os.path.expandvars(config.webhook)
            self._places["webhook"] = lambda content: _post(url, content)
        if config.mail is not None:
            mail = config.mail.expanduser()
            self._places["mail"] = lambda content: _mail(mail, content)

    def send(self) -> None:
        """Deliver what is new.

        Raises
        ------
        DeconvError
            If a place does not take it.
        """
        done = set(json.loads(self._file.read_text())) if self._file.exists() else set()
        for entry in list(self._entries):
            if entry.kind != "alert":
                continue
            run = self._folder.name
            text = f"{run}: {entry.data['event']}: {entry.data['message']}"
            content = {"text": text, **entry.data, "run": run, "run_id": self._run_id()}
            for place, deliver in self._places.items():
                mark = f"{entry.data['event']}:{place}"
                if mark in done:
                    continue
                try:
                    deliver(content)
                    done.add(mark)
                    write_text(self._file, json.dumps(sorted(done)))
                except (OSError, ValueError, HTTPException, mailbox.Error) as error:
                    raise DeconvError(
                        f"cannot deliver the alert ({text})", where=f"output.alerts.{place}",
                        got=str(error) or type(error).__name__,
                    ) from error  # fmt: skip


def _post(url: str, content: dict[str, Any]) -> None:
    request = urllib.request.Request(
        url, json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_SECONDS):
        pass


def _mail(path: Path, content: dict[str, Any]) -> None:
    message = EmailMessage()
    message["From"], message["To"] = "deconv", "deconv"
    message["Date"], message["Subject"] = formatdate(), content["text"]
    message.set_content(json.dumps(content, indent=1) + "\n")
    box = mailbox.mbox(path)
    box.lock()
    try:
        box.add(message)
        box.flush()
    finally:
        box.unlock()
        box.close()
