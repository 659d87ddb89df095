"""Figures of a study, as pages that need no network."""

import json
import warnings
from functools import partial

import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import (
    plot_intermediate_values,
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_pareto_front,
    plot_timeline,
)

from deconv.files import write_text
from tuning.study import FINISHED, Study
from tuning.trial_record import CURVE, trial_folder

_NAMES = {"single": ["objective"], "two": ["MAE", "spurious mass"]}


def write_figures(study: Study) -> list[str]:
    """Write every figure that has data into the study's folder; return their paths in it."""
    snapshot = _snapshot(study)
    done = [t for t in snapshot.trials if t.state == TrialState.COMPLETE]
    names = _NAMES[study.config.objective.kind]
    figures: dict[str, go.Figure] = {}
    if done:
        figures["timeline"] = plot_timeline(snapshot)
        figures["threshold_curves"] = threshold_curves(study, done)
        for i, name in enumerate(names):
            target = partial(_value, i)
            suffix = "" if len(names) == 1 else f"_{name.replace(' ', '_')}"
            figures["history" + suffix] = plot_optimization_history(
                snapshot, target=target, target_name=name
            )
            if len(done) >= 3 and not study.plan:
                figures["parallel" + suffix] = plot_parallel_coordinate(
                    snapshot, target=target, target_name=name
                )
        if importances(study):
            figures["importances"] = go.Figure(
                [
                    go.Bar(x=list(found.values()), y=list(found), orientation="h", name=name)
                    for name, found in importances(study).items()
                ]
            ).update_layout(title="Which settings matter", xaxis_title="importance")
        if len(names) == 2:
            figures["pareto"] = plot_pareto_front(snapshot, target_names=names)
        else:
            figures["pruning"] = plot_intermediate_values(snapshot)
    written = []
    for name, figure in figures.items():
        page = figure.to_html(include_plotlyjs=True, full_html=True)
        write_text(study.folder / "figures" / f"{name}.html", page)
        written.append(f"figures/{name}.html")
    return written


def importances(study: Study) -> dict[str, dict[str, float]]:
    """Return how much each setting matters to each objective (PED-ANOVA, Watanabe 2023).

    Empty where there are too few trials to tell.
    """
    if study.plan:
        return {}
    snapshot = _snapshot(study)
    done = [t for t in snapshot.trials if t.state == TrialState.COMPLETE]
    varied = [p for p in done[0].params if len({t.params[p] for t in done}) > 1] if done else []
    if len(done) < 5 or not varied:
        return {}
    found = {}
    for i, name in enumerate(_NAMES[study.config.objective.kind]):
        with warnings.catch_warnings():
            # That low values are good is what is meant.
            warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes")
            values = get_param_importances(
                snapshot, evaluator=PedAnovaImportanceEvaluator(), params=varied,
                target=partial(_value, i),
            )  # fmt: skip
        found[name] = {k: float(v) for k, v in values.items()}
    return found


def threshold_curves(study: Study, done: list[FrozenTrial]) -> go.Figure:
    """Show what each trial's model does at each threshold."""
    figure = go.Figure()
    for trial in done:
        file = trial_folder(study, trial.number).path / CURVE
        if not file.exists():
            continue
        curve = pd.read_csv(file)
        best = trial.user_attrs.get("threshold")
        for metric, title, dash in (("presence_f1", "F1", "solid"), ("mae", "MAE, %", "dot")):
            scale = 100 if metric == "mae" else 1
            figure.add_scatter(
                x=curve["threshold"], y=scale * curve[metric], mode="lines",
                line={"dash": dash}, legendgroup=str(trial.number),
                name=f"trial {trial.number}: {title}, best at {best:.2f}",
                yaxis="y2" if metric == "mae" else "y",
            )  # fmt: skip
    return figure.update_layout(
        title="Presence threshold", xaxis_title="threshold", yaxis_title="F1",
        yaxis2={"title": "MAE, %", "overlaying": "y", "side": "right"},
    )  # fmt: skip


def _value(i: int, trial: FrozenTrial) -> float:
    return float(trial.values[i])


def _snapshot(study: Study) -> optuna.Study:
    """Return the finished trials as a study in memory, which figures may read at leisure."""
    directions = [StudyDirection.MINIMIZE] * len(_NAMES[study.config.objective.kind])
    copy = optuna.create_study(directions=directions, study_name=study.config.name)
    copy.add_trials([t for t in study.trials() if t.state in FINISHED])
    return copy


def write_importances(study: Study) -> str:
    """Write the importances into the study's folder; return the file's name."""
    write_text(study.folder / "importances.json", json.dumps(importances(study), indent=1))
    return "importances.json"
