"""The results of a batch as `deconv predict -o FOLDER` writes them, and what has none."""

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

from deconv.errors import InputError
from deconv.files import write_text
from deconv.findings import Finding
from experiments.analysis import Part
from experiments.batch import results
from experiments.batch_plan import PLACE, Plan, open_planned, read_plan
from experiments.outputs import write_prediction
from experiments.predict import Prediction, join_parts
from experiments.prediction_records import add_records, records_of

FAILED = "failed.csv"
_RECORDED = "recorded.json"


@dataclass(frozen=True)
class Gathered:
    """A whole batch: the prediction, what was written, and why samples could not be analysed."""

    prediction: Prediction
    written: list[Path]
    failed: dict[str, str]


def gather(folder: Path) -> Gathered:
    """Join the results of all files, record them if that is asked, and write the outputs.

    Raises
    ------
    MismatchError
        If files have no result yet.
    InputError
        If no sample of the sheet could be analysed.
    """
    plan = read_plan(folder)
    parts: list[Part] = []
    failed: dict[str, str] = {}
    at: dict[str, str] = {}
    rows = [("sample", "file", "reason")]
    for source, result in results(folder, plan):
        parts.append(result.part)
        at |= dict.fromkeys(map(str, result.part.figures.index), result.at)
        failed |= result.failed
        rows += [(name, source.path.name, why) for name, why in result.failed.items()]
    if failed:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_text(folder / FAILED, text.getvalue())
        found = [Finding("error", "file", name, why) for name, why in failed.items()]
        parts.append(Part.nothing(found))
    else:
        (folder / FAILED).unlink(missing_ok=True)
    if not at:
        raise InputError(
            "no sample of the sheet could be analysed", where=plan.asked.sheet,
            got=next(iter(failed.values())), expected=f"see {folder / FAILED}",
        )  # fmt: skip
    prediction = join_parts(open_planned(plan), parts)
    if plan.asked.records is not None:
        _record(folder, plan, prediction, at)
    written = write_prediction(prediction, folder)
    return Gathered(prediction, written + [folder / FAILED] * bool(failed), failed)


def _record(folder: Path, plan: Plan, prediction: Prediction, at: dict[str, str]) -> None:
    """Record each prediction once, however often it is gathered."""
    assert plan.asked.records is not None
    ids = {
        name: hashlib.sha256(f"{plan.id}\n{name}\n{when}".encode()).hexdigest()[:32]
        for name, when in at.items()
    }
    path = folder / PLACE / _RECORDED
    known = set(json.loads(path.read_text())) if path.exists() else set()
    names = plan.asked.record_names
    new = [r for r in records_of(prediction, names=names, at=at, ids=ids) if r.id not in known]
    if new:
        add_records(Path(plan.asked.records), new)
        # Killed before this, they are added again, under the same ids: readers take them once.
        write_text(path, json.dumps(sorted(known | set(ids.values()))))
