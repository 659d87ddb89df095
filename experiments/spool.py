"""A run's own record of its metrics: append-only lines on disk, written before anything else.

MLflow may be away and may drop points; this file is what is replayed to it. The first
record of an epoch stands: an epoch trained again after a crash, with the same result,
keeps its time, so that replaying it leaves no second point.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from deconv.errors import InputError
from deconv.train import Metrics


@dataclass(frozen=True)
class Point:
    """The metrics of an epoch."""

    step: int
    timestamp_ms: int
    metrics: dict[str, float]


class MetricSpool:
    """The file of a run. A last line cut off by a crash is dropped: its epoch was not done."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.points: dict[int, Point] = {}
        if not path.exists():
            return
        text = path.read_bytes()
        complete = text[: text.rfind(b"\n") + 1]
        if len(complete) < len(text):
            with path.open("r+b") as file:
                file.truncate(len(complete))
        for number, line in enumerate(complete.splitlines(), start=1):
            try:
                point = Point(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise InputError(
                    "the record is damaged", where=f"{path}, line {number}", got=error
                ) from error
            self.points[point.step] = point

    def append(self, metrics: Metrics, *, step: int) -> Point:
        """Record an epoch unless it is there; on disk when this returns."""
        if step not in self.points:
            point = Point(step, time.time_ns() // 1_000_000, dict(metrics))
            with self._path.open("a") as file:
                file.write(json.dumps(vars(point)) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self.points[step] = point
        return self.points[step]
