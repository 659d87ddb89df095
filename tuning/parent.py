"""The study's own MLflow run, under which those of its trials are shown."""

import json

import pandas as pd
import yaml

from deconv.files import file_hash, write_text
from experiments.record import Notes, add_notes, send_all
from experiments.sync import spools_in
from tuning.space import DIMENSIONS, THRESHOLD, search_space, thresholds
from tuning.status import best_trials, knee, study_status
from tuning.storage import public
from tuning.study import Study


def begin_parent(study: Study) -> None:
    """Begin the study's run, or set it to running again, so that trials can be put under it."""
    config = study.config
    space: dict[str, str] = {k: str(v) for k, v in search_space(config.space).items()}
    scored = thresholds(config.space)
    space[THRESHOLD] = f"{scored[0]:g} to {scored[-1]:g}, {len(scored)} scored in each trial"
    settings = {
        "study": config.name,
        "base": config.base,
        "set": " ".join(config.set),
        "storage": public(config.storage),
        **{f"sampler.{k}": str(v) for k, v in config.sampler.model_dump().items()},
        **{f"pruner.{k}": str(v) for k, v in config.pruner.model_dump().items()},
        **{f"objective.{k}": str(v) for k, v in config.objective.model_dump().items()},
        **{f"space.{DIMENSIONS[k].key}": v for k, v in space.items()},
    }
    shown = config.model_copy(update={"storage": public(config.storage)})
    write_text(study.folder / "settings.yaml", yaml.safe_dump(shown.model_dump(mode="json")))
    notes = Notes(
        params={k: v for k, v in settings.items() if v},
        tags={"kind": "study", "study": config.name, "study_folder": str(study.folder)},
        files=_hashed(study, ["settings.yaml", "base.yaml"]),
        status="RUNNING",
    )
    experiment = study.base.output.experiment
    run_id = add_notes(study.folder, notes, begin=(f"study {config.name}", experiment))
    if run_id is not None and study.parent_run is None:
        study.set_parent_run(run_id)


def conclude_parent(study: Study) -> None:
    """Write what a study has found so far into its folder and its run.

    It ends the run if nothing is left to do.
    """
    from tuning.figures import write_figures, write_importances

    status = study_status(study)
    rows = [
        {
            "trial": row.number, "state": row.state, "seconds": row.seconds,
            "starts": row.starts, "epochs": row.epochs, "reason": row.note, **row.params,
            **{f"objective{i or ''}": v for i, v in enumerate(row.values or [])},
        }
        for row in status.rows
    ]  # fmt: skip
    write_text(study.folder / "trials.csv", pd.DataFrame(rows).to_csv(index=False))
    best = knee(best_trials(study))
    found = [
        {"trial": t.number, "values": t.values, "params": t.params, "run": t.user_attrs["run_id"]}
        for t in best
    ]
    write_text(study.folder / "best.json", json.dumps(found, indent=1))
    files = ["trials.csv", "best.json", write_importances(study), *write_figures(study)]
    n_finished = sum(status.count(s) for s in ("complete", "pruned", "fail"))
    metrics: dict[str, float] = {f"study/{s}": status.count(s) for s in ("complete", "pruned")}
    metrics |= {"study/failed": status.count("fail"), "study/gpu_hours": status.gpu_hours}
    tags: dict[str, str] = {}
    if best:
        metrics |= {f"study/best{i or ''}": v for i, v in enumerate(best[0].values)}
        tags = {f"best.{k}": f"{v:.6g}" for k, v in best[0].params.items()}
        tags |= {"best.trial": str(best[0].number), "best.run": str(found[0]["run"])}
    for folder in spools_in(study.folder / "runs"):
        send_all(folder)  # a store that was busy may lack an end
    ended = study.is_finished()
    add_notes(
        study.folder,
        Notes(
            tags={"kind": "study", "study": study.config.name, **tags},
            metrics=metrics, step=n_finished, files=_hashed(study, files),
            status="FINISHED" if ended else "KILLED",
        ),
    )  # fmt: skip


def _hashed(study: Study, names: list[str]) -> dict[str, str]:
    return {name: file_hash(study.folder / name) for name in names}
