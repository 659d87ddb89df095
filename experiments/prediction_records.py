"""What was predicted, when, by which model and of what: lines that are only ever added.

Records are kept where `--records` or ``DECONV_RECORDS`` says, and nowhere if neither does: they
are data of patients. A folder has a file for each machine, user and month, so that nobody writes
into another's. A line (`experiments.sealed`) has the model, the sample's name and the hash of its
counts, the figures of `deconv.trained_range`, calls and what was not assessable; no path.
"""

import fcntl
import os
import re
import socket
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from deconv.errors import DeconvError, InputError
from experiments.sealed import sealed, unsealed

if TYPE_CHECKING:  # torch is slow to import, and reading records does not need it
    from experiments.predict import Prediction

FORMAT_VERSION = 1
_MODE = 0o640  # a group may read what one of it predicted


@dataclass(frozen=True)
class Record:
    """A prediction of a sample.

    ``figures`` are those of `deconv.trained_range.QUANTITIES` that the method has; ``calls`` the
    proportions of the tissues detected. ``sample`` is empty where names are not kept.
    """

    id: str
    at: str
    model: Mapping[str, str]
    sample: str
    content: str
    figures: Mapping[str, float]
    calls: Mapping[str, float | None]
    not_assessable: tuple[str, ...]


def records_of(
    prediction: "Prediction",
    *,
    names: bool = True,
    at: Mapping[str, str] | None = None,
    ids: Mapping[str, str] | None = None,
) -> list[Record]:
    """Return a record for each sample that was predicted.

    Parameters
    ----------
    names
        Whether the names of the samples are kept.
    at, ids
        Time and identity of each sample's prediction, if it was made before.
    """
    measured = prediction.measured
    if measured is None or prediction.table.empty:
        return []
    now = _now()
    table = measured.table
    contents = dict(zip(map(str, table.index), table["content"].astype(str), strict=True))
    columns = list(map(str, prediction.figures))
    figures_of = {
        str(name): dict(zip(columns, row, strict=True))
        for name, row in zip(prediction.figures.index, prediction.figures.to_numpy(), strict=True)
    }
    model = vars(prediction.model.identity)
    found = []
    for name, rows in prediction.table.groupby("sample", sort=False):
        figures = figures_of[str(name)]
        detected = rows[rows["call"] == "detected"].set_index("tissue")["proportion"]
        found.append(
            Record(
                id=uuid.uuid4().hex if ids is None else ids[str(name)],
                at=now if at is None else at[str(name)],
                model=dict(model),
                sample=str(name) if names else "",
                content=contents[str(name)],
                figures={k: float(v) for k, v in figures.items() if np.isfinite(v)},
                calls={str(k): None if pd.isna(v) else float(v) for k, v in detected.items()},
                not_assessable=tuple(rows.loc[rows["call"] == "not assessable", "tissue"]),
            )
        )
    return found


def require_writable(folder: Path) -> None:
    """Refuse a folder that takes no records, before the work is done.

    Raises
    ------
    DeconvError
        If it can be neither made nor written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        os.close(_opened(_file_of_ours(folder)))
    except OSError as error:
        raise _cannot(folder, error) from error


def add_records(folder: Path, records: Iterable[Record]) -> Path:
    """Add records; they are on disk, all of them, when this returns.

    Raises
    ------
    DeconvError
        If the disk does not take them; what was there before is whole.
    """
    lines = b"".join(sealed({"version": FORMAT_VERSION, **vars(record)}) for record in records)
    path = _file_of_ours(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        number = _opened(path)
        try:
            fcntl.flock(number, fcntl.LOCK_EX)
            size = os.fstat(number).st_size
            # A power cut may have left a part of a line: it stays alone on its line.
            torn = size > 0 and os.pread(number, 1, size - 1) != b"\n"
            try:
                _write_all(number, b"\n" + lines if torn else lines)
                os.fsync(number)
            except OSError:
                os.ftruncate(number, size)
                raise
        finally:
            os.close(number)
    except OSError as error:
        raise _cannot(path, error) from error
    return path


def read_records(folder: Path) -> tuple[list[Record], list[str]]:
    """Return all records, each once, in the order of time, and what is wrong with the files.

    Raises
    ------
    InputError
        If there is no such folder, or a record is of a later version.
    """
    if not folder.is_dir():
        raise InputError("no such folder of records", where=folder)
    found: dict[str, Record] = {}
    notes = []
    for path in sorted(folder.glob("predictions-*.jsonl")):
        n_damaged = 0
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            content = unsealed(line)
            if content is None:
                n_damaged += bool(line)
                continue
            version = content.pop("version")
            if version != FORMAT_VERSION:
                raise InputError(
                    "a record of another version", where=f"{path}, line {number}",
                    got=version, expected=FORMAT_VERSION,
                )  # fmt: skip
            content["not_assessable"] = tuple(content["not_assessable"])
            record = Record(**content)
            found.setdefault(record.id, record)
        if n_damaged:
            notes.append(f"{path}: {n_damaged} damaged line(s), left out")
    return sorted(found.values(), key=lambda r: r.at), notes


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, _MODE)


def _write_all(number: int, content: bytes) -> None:
    while content:
        content = content[os.write(number, content) :]


def _file_of_ours(folder: Path) -> Path:
    machine = re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())
    return folder / f"predictions-{_now()[:7]}-{machine}-{os.getuid()}.jsonl"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _cannot(where: Path, error: OSError) -> DeconvError:
    return DeconvError(
        "cannot write the records of predictions", where=where, got=error.strerror,
        expected="space and rights to write, or another --records",
    )  # fmt: skip
