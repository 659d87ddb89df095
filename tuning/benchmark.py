"""`deconv benchmark tuning`: what studies cost, what pruning saves, what tuning gains."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from deconv.benchmarks.bootstrap import paired_differences
from deconv.errors import DeconvError
from deconv.files import write_text
from deconv.simulate import simulate_atlas
from experiments.demo import DEPTH, N_DONORS, N_REGIONS, SEED
from experiments.provenance import machine_tags
from tuning.config import PrunerConfig, StudyConfig
from tuning.finals import compare_finals
from tuning.finish import begin_finals
from tuning.local import supervise
from tuning.parent import begin_parent
from tuning.status import best_trials
from tuning.storage_benchmark import storage_cost
from tuning.study import Study
from tuning.trial_record import trial_folder


def benchmark_tuning(
    path: Path,
    *,
    n_trials: int,
    n_regions: int,
    overrides: Sequence[str],
    processes: int,
    postgres: str | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measure, and write the result as JSON after each part.

    Parameters
    ----------
    n_trials
        Of a study with pruning, and of one without.
    n_regions
        Of the synthetic panel; the run is ``demo``.
    overrides
        Settings of the run. Storage and tracking are compared with a trial of the demo as it is.
    processes
        Workers of a study, which share the cores.
    postgres
        URL of an empty database, to measure it too.
    """
    result: dict[str, Any] = {
        "machine": machine_tags(), "trials": n_trials, "regions": n_regions,
        "set": list(overrides), "processes": processes, "pruner": PrunerConfig().model_dump(),
    }  # fmt: skip

    def keep(name: str, found: dict[str, Any]) -> None:
        result[name] = found
        write_text(path, json.dumps(result, indent=1))
        say(f"{name}: " + ", ".join(f"{k} {_short(v)}" for k, v in found.items()))

    with _own_store() as folder:
        for storage in ("journal", *([postgres] if postgres else [])):
            kind = "journal" if storage == "journal" else "postgresql"
            keep(f"storage_{kind}", storage_cost(folder, kind, storage))
        data = _atlas(folder, n_regions)
        studies = {}
        for kind in ("none", "hyperband"):
            studies[kind] = _search(
                folder, f"demo-{kind}", data,
                pruner=kind, n=n_trials, overrides=overrides, processes=processes,
            )  # fmt: skip
            keep(f"pruner_{kind}", _spent(studies[kind]))
        keep("pruning", _saving(studies["none"], studies["hyperband"]))
        finals = begin_finals(studies["hyperband"])
        begin_parent(finals)
        _work(finals, processes)
        compared = compare_finals(finals)
        found = compared.winner.against_default["mae"]
        keep("tuned", {
            "verdict": compared.verdict(), "difference": found.value,
            "low": found.low, "high": found.high,
        })  # fmt: skip
        shipped = studies["none"]
        if overrides or n_regions != N_REGIONS:
            shipped = _search(folder, "demo", _atlas(folder, N_REGIONS), pruner="none", n=1)
        spent = _spent(shipped)
        cost = result["storage_journal"]["seconds_per_trial"] + spent["tracking_seconds"]
        keep("overhead", {
            "share_of_a_demo_trial": cost / spent["seconds_per_trial"],
            "seconds_per_trial": spent["seconds_per_trial"],
            "tracking_seconds": spent["tracking_seconds"],
        })  # fmt: skip
    return result


def _atlas(folder: Path, n_regions: int) -> Path:
    path = folder / f"atlas-{n_regions}.h5ad"
    if not path.exists():
        simulate_atlas(path, n_regions=n_regions, n_donors=N_DONORS, depth=DEPTH, seed=SEED)
    return path


def _search(
    folder: Path, name: str, data: Path, *, pruner: str, n: int,
    overrides: Sequence[str] = (), processes: int = 1,
) -> Study:  # fmt: skip
    study = Study.begin(
        StudyConfig.model_validate({
            "name": name, "base": "demo", "data": str(data),
            "set": list(overrides), "directory": str(folder / "studies"),
            "pruner": {"kind": pruner}, "budget": {"trials": n},
        })
    )  # fmt: skip
    begin_parent(study)
    _work(study, processes)
    return study


def _work(study: Study, processes: int) -> None:
    threads = max((os.cpu_count() or 1) // processes, 1)
    code = supervise(study.folder, processes=processes, threads=threads, device="auto")
    if code or not study.is_finished():
        raise DeconvError("the study did not end", where=study.folder)


def _spent(study: Study) -> dict[str, Any]:
    trials = study.trials()
    done = [t for t in trials if t.state == TrialState.COMPLETE]
    return {
        "epochs": sum(max(t.intermediate_values, default=0) for t in trials),
        "complete": len(done),
        "pruned": sum(t.state == TrialState.PRUNED for t in trials),
        "best": best_trials(study)[0].values[0],
        "seconds_per_trial": float(np.mean([t.user_attrs["last_seconds"] for t in done])),
        "tracking_seconds": float(np.mean([t.user_attrs["tracking_seconds"] for t in done])),
    }


def _saving(full: Study, pruned: Study) -> dict[str, Any]:
    """Return the share of epochs saved, and the best of both on the same test mixtures."""
    epochs = [_spent(study)["epochs"] for study in (full, pruned)]
    answers = [_answers(study, best_trials(study)[0]) for study in (pruned, full)]
    (ours, call, true), (theirs, their_call, _) = answers
    found = paired_differences((ours, call), (theirs, their_call), true, seed=0)["mae"]
    return {
        "epochs_saved": 1 - epochs[1] / epochs[0], "difference": found.value,
        "low": found.low, "high": found.high, "as_good": found.low <= 0,
    }  # fmt: skip


def _answers(study: Study, trial: FrozenTrial) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    stats = pd.read_csv(trial_folder(study, trial.number).path / "summary_stats.csv")
    n_tissues = stats["tissue"].nunique()
    columns = (
        stats["predicted_proportion"], stats["call"] == "detected", stats["true_proportion"]
    )  # fmt: skip
    predicted, call, true = (c.to_numpy().reshape(-1, n_tissues) for c in columns)
    return predicted, call, true


@contextmanager
def _own_store() -> Iterator[Path]:
    """Work in a folder with a tracking store of its own; workers find it by the variable."""
    name = "MLFLOW_TRACKING_URI"
    before = os.environ.get(name)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ[name] = f"sqlite:///{folder}/mlflow.db"
        here = Path.cwd()
        os.chdir(folder)  # MLflow's default place of artifacts is ./mlruns
        try:
            yield folder
        finally:
            os.chdir(here)
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
