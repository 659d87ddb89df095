"""What a run tells: recorded first, sent to MLflow in the background while training goes on."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from deconv.errors import DeconvError
from deconv.files import file_hash
from deconv.train import Metrics
from experiments.alerts import AlertConfig, AlertDelivery, new_alerts
from experiments.sender import Follower
from experiments.sent import check_whole
from experiments.spool import SPOOL, Spool
from experiments.store import TrackingError as TrackingError
from experiments.store import tracking_errors as tracking_errors
from experiments.sync import Outbox

_LIMIT = 600.0  # seconds that the end of a run waits for a store that is slow but there


class TrackedRun:
    """One run: its record, and the thread that sends it.

    Everything is on disk before anything else is done with it. A store that is away delays
    it; it neither loses it nor stops nor slows the training.

    Parameters
    ----------
    begin
        Lines by kind that a record opens with; those that are there already stand.
    wait
        Seconds that the end of the run waits for a store that is away.
    """

    def __init__(
        self,
        folder: Path,
        begin: Mapping[str, Mapping[str, Any]],
        *,
        wait: float,
        alerts: AlertConfig | None = None,
    ) -> None:
        self._folder, self._wait = folder, wait
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.seconds = 0.0
        """Time that the run has waited for its tracking."""
        with self.waiting():
            self.spool = Spool(folder / SPOOL, say=self._say)
            check_whole(folder, len(self.spool.entries))
            for kind, data in begin.items():
                if self.spool.last(kind) is None:
                    self.spool.append(kind, **data)
            self._outbox = Outbox(folder, self.spool.entries)
            self._alerts = alerts if alerts is not None and alerts.is_on else None
            self._followers = [Follower("tracking", self._outbox.send, self._tell_state)]
            if self._alerts is not None:
                deliver = AlertDelivery(self._alerts, folder, self.spool.entries, self._run_ids)
                self._followers.append(Follower("alerts", deliver.send, self._tell_alert_state))
            self.set_status("RUNNING")
            for follower in self._followers:
                follower.wake()  # to what a run left that is gone on with

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of a block as spent on tracking."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run, None as long as no store knows it."""
        return self._outbox.position.run_id or None

    def known_run_id(self) -> str | None:
        """Return the id; a store that was not asked yet gets a moment."""
        with self.waiting():
            self._followers[0].settle(self._wait)
        return self.run_id

    def log_metrics(self, metrics: Metrics, *, step: int) -> None:
        """Record an epoch; the first record of an epoch stands."""
        if self.spool.last("metrics", step) is None:
            self._append("metrics", step=step, metrics=dict(metrics))
        if self._alerts is not None:
            for alert in new_alerts(self._alerts, self.spool.points):
                if self.spool.last("alert", alert.event) is None:
                    self._append("alert", **vars(alert))

    def log_summary(self, metrics: Metrics, *, step: int) -> None:
        """Record results that belong to the run as a whole, at the step of its best epoch."""
        if self.spool.last("summary") is None:
            self._append("summary", step=step, metrics=dict(metrics))

    def log_files(self, names: Iterable[str]) -> None:
        """Record files of the run's folder; one that was recorded as it is stays as it is."""
        for name in names:
            sha256, last = self._sha256(name), self.spool.last("file", name)
            if last is None or last.data["sha256"] != sha256:
                self._append("file", path=name, sha256=sha256)

    def log_model(
        self, name: str, files: Mapping[str, str], *, step: int, tags: Mapping[str, str]
    ) -> None:
        """Record the run's model, once: files of the folder by their place in the model."""
        if self.spool.last("model") is None:
            hashed = {
                place: {"path": path, "sha256": self._sha256(path)}
                for place, path in files.items()
            }
            self._append("model", name=name, step=step, tags=dict(tags), files=hashed)

    def log_params(self, params: Mapping[str, str]) -> None:
        """Record parameters that are known only later; MLflow lets nobody change them."""
        last = self.spool.last("params")
        if last is None or last.data["params"] != params:
            self._append("params", params=dict(params))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Record tags of the run."""
        last = self.spool.last("tags")
        if last is None or last.data["tags"] != tags:
            self._append("tags", tags=dict(tags))

    def set_status(self, status: str) -> None:
        """Record that the run is RUNNING, FINISHED, FAILED or KILLED."""
        last = self.spool.last("status")
        if last is None or last.data["status"] != status:
            self._append("status", status=status)

    def finish(self, status: str) -> None:
        """Record the end, give the stores a bounded time, and say what is left."""
        try:
            self.set_status(status)
        finally:
            with self.waiting():
                self._outbox.retry_refused = True
                for follower in self._followers:
                    follower.close(patience=self._wait, limit=_LIMIT)
        left, refused = self._outbox.n_left, self._outbox.position.aside
        for reason in list(refused.values())[:1]:
            self._say(f"refused: {reason}")
        if left:
            self._say(f"{left} records kept; send them with: deconv sync {self._folder}")

    def _append(self, kind: str, **data: Any) -> None:
        with self.waiting():
            self.spool.append(kind, **data)
            for follower in self._followers:
                follower.wake()

    def _sha256(self, name: str) -> str:
        with self.waiting():
            return file_hash(self._folder / name)

    def _run_ids(self) -> str:
        return self._outbox.position.run_id

    def _say(self, message: str) -> None:
        self._console.print(f"[yellow]{escape(message)}[/]")

    def _tell_state(self, error: DeconvError | None) -> None:
        self._say("the tracking store takes data again" if error is None else f"kept: {error}")

    def _tell_alert_state(self, error: DeconvError | None) -> None:
        self._say("alerts are delivered again" if error is None else f"{error}")
