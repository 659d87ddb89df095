"""The result of one file of a batch, as a file: exact, whole or absent, nothing to execute.

A line of JSON with a checksum (`experiments.sealed`). Numbers are written so that they are read
as they were, to the last bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deconv.files import replacing
from deconv.findings import Finding
from deconv.inputs import Source
from deconv.quality import Measured
from experiments.analysis import Part
from experiments.sealed import sealed, unsealed

Stamp = tuple[int, int] | None


@dataclass(frozen=True)
class Result:
    """What became of a file: its part of the prediction, and samples that have none, with why.

    ``stamp`` tells a file that changed since; ``plan`` is the batch's id.
    """

    plan: str
    stamp: Stamp
    at: str
    part: Part
    failed: Mapping[str, str]

    @classmethod
    def now(cls, plan: str, stamp: Stamp, part: Part, failed: Mapping[str, str]) -> "Result":
        """Return a result of this moment."""
        return cls(plan, stamp, datetime.now(UTC).isoformat(timespec="milliseconds"), part, failed)


def stamp(source: Source) -> Stamp:
    """Return size and time of change (nanoseconds) of a file, None if it is not there."""
    try:
        found = source.path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def result_path(folder: Path, number: int) -> Path:
    """Return where the result of a file of the sheet lies, in groups of a thousand."""
    return folder / "results" / f"{number // 1000:04d}" / f"{number:07d}.json"


def write_result(folder: Path, number: int, result: Result) -> None:
    """Write a result; in its place when this returns."""
    content = {
        "plan": result.plan,
        "stamp": result.stamp,
        "at": result.at,
        "table": _columns(result.part.table),
        "figures": _columns(result.part.figures),
        "measured": _measured(result.part.measured),
        "findings": [finding.to_dict() for finding in result.part.findings],
        "notes": result.part.notes,
        "failed": dict(result.failed),
    }
    with replacing(result_path(folder, number)) as temporary:
        temporary.write_bytes(sealed(content))


def read_result(folder: Path, number: int) -> Result | None:
    """Read a result; None if there is none, or it is damaged and has to be made again."""
    try:
        content = unsealed(result_path(folder, number).read_bytes())
    except FileNotFoundError:
        return None
    if content is None:
        return None
    part = Part(
        _frame(content["table"]),
        _restored(content["measured"]),
        _frame(content["figures"]),
        [Finding(**finding) for finding in content["findings"]],
        content["notes"],
    )
    seen = None if content["stamp"] is None else (content["stamp"][0], content["stamp"][1])
    return Result(content["plan"], seen, content["at"], part, content["failed"])


def _columns(table: pd.DataFrame) -> dict[str, Any]:
    return {
        "index": table.index.tolist(),
        "name": table.index.name,
        "columns": {str(name): table[name].tolist() for name in table},
    }


def _frame(saved: Mapping[str, Any]) -> pd.DataFrame:
    index: Sequence[Any] = saved["index"]
    return pd.DataFrame(saved["columns"], index=pd.Index(index, name=saved["name"]))


def _measured(measured: Measured | None) -> dict[str, Any] | None:
    if measured is None:
        return None
    return {
        "tissues": list(measured.tissues),
        "n_regions": measured.n_regions,
        "n_informative": measured.n_informative.tolist(),
        "table": _columns(measured.table),
        "observed": measured.observed.tolist(),
        "signature": measured.signature.tolist(),
    }


def _restored(saved: Mapping[str, Any] | None) -> Measured | None:
    if saved is None:
        return None
    return Measured(
        tuple(saved["tissues"]),
        saved["n_regions"],
        np.array(saved["n_informative"], dtype=np.int64),
        _frame(saved["table"]),
        np.array(saved["observed"], dtype=np.int64),
        np.array(saved["signature"], dtype=np.int64),
    )
