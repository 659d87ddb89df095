"""Where a run comes from and what came of it, as the tracking store tells."""

from collections.abc import Mapping
from datetime import datetime
from json import loads
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from deconv.errors import DeconvError
from deconv.metrics import HEADLINE
from experiments.metric_names import interval_names, show, show_interval
from experiments.names import BOOK
from experiments.reading import find_run, quoted
from experiments.store import open_store, tracking_errors

DIFF, ENVIRONMENT, CONFIG = "code.diff", "environment.txt", "config.yaml"
_PARENT = "mlflow.parentRunId"
_FROM = "model.pretrained_checkpoint"
Lineage = dict[str, Any]


def ancestry(run: Run) -> Lineage:
    """Return what a run was made of and what it made, by section.

    Raises
    ------
    TrackingError
        If the store cannot be reached.
    """
    client = open_store()
    tags, info = run.data.tags, run.info
    with tracking_errors("cannot read the run"):
        experiment = client.get_experiment(info.experiment_id).name
        files = {item.path for item in client.list_artifacts(info.run_id)}
        models = _models(client, run)
        versions = _versions(client, run)

    def artifact(name: str) -> str | None:
        return f"{info.artifact_uri}/{name}" if name in files else None

    return {
        "run": {
            "name": info.run_name,
            "id": info.run_id,
            "status": info.status,
            "experiment": experiment,
            "started": _time(info.start_time),
            "minutes": _minutes(info.start_time, info.end_time),
            "user": info.user_id or tags.get("mlflow.user"),
            "host": tags.get("host"),
            "folder": tags.get("run_folder"),
            "slurm job": tags.get("slurm.job_id"),
            **{name: tags.get(name) for name in ("phase", "sparse", "dataset", "study")},
        },
        "data": {
            **_datasets(run),
            "all pure samples": {"sha256": tags.get("data.sha256")},
            "atlas": {"sha256": tags.get("atlas.sha256")},
        },
        "code": {
            "commit": tags.get("git.commit"),
            "changed since": tags.get("git.dirty"),
            "diff": artifact(DIFF),
        },
        "environment": {
            **{
                k.removeprefix("version."): v
                for k, v in sorted(tags.items())
                if k[:8] == "version."
            },
            **{name: tags.get(name) for name in ("device", "precision", "threads")},
            "all packages": artifact(ENVIRONMENT),
        },
        "configuration": {"file": artifact(CONFIG), **dict(sorted(run.data.params.items()))},
        "parents": {
            "shown under": tags.get(_PARENT),
            "weights from": run.data.params.get(_FROM),
            "weights of run": origin_of(client, run.data.params.get(_FROM)),
        },
        "models": models,
        "registered": versions,
        "results": {k: v for k, v in sorted(run.data.metrics.items()) if k.startswith("test/")},
    }


def origin_of(client: MlflowClient, source: str | None) -> str | None:
    """Return the id of the run whose weights a run started from, None if it cannot be told."""
    if source is None:
        return None
    try:
        if not source.startswith("models:/"):
            return str(find_run(str(Path(source).parent)).info.run_id)
        name, _, version = source.removeprefix("models:/").partition("/")
        with tracking_errors("cannot read the registry"):
            if version:
                return str(client.get_model_version(name, version).run_id)
            # Of an alias only what it names today is known.
            name, _, alias = name.partition("@")
            return str(client.get_model_version_by_alias(name, alias).run_id) + " (today)"
    except DeconvError:
        return None


def ancestry_tables(lineage: Lineage) -> RenderableType:
    """Return what people see of it: what is not known is left out, results are the headline."""
    parts: list[RenderableType] = []
    data = {
        name: ", ".join(f"{k} {v}" for k, v in facts.items() if v is not None)
        for name, facts in lineage["data"].items()
    }
    for title, facts in (
        ("run", lineage["run"]),
        ("data", data),
        ("code", lineage["code"]),
        ("environment", lineage["environment"]),
        ("configuration", lineage["configuration"]),
        ("parents", lineage["parents"]),
        ("models", _model_lines(lineage)),
        ("results on the test mixtures", _headline(lineage["results"])),
    ):
        known = {name: value for name, value in facts.items() if value not in (None, "")}
        if not known:
            continue
        table = Table(title=title, title_justify="left", show_header=False)
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        for name, value in known.items():
            table.add_row(escape(name), escape(str(value)))
        parts.append(table)
    return Group(*parts)


def _datasets(run: Run) -> dict[str, dict[str, Any]]:
    found = {}
    for entry in run.inputs.dataset_inputs if run.inputs is not None else []:
        data = entry.dataset
        profile = loads(data.profile) if data.profile else {}
        source = loads(data.source).get("uri") if data.source else None
        facts = {"samples": profile.get("samples"), "regions": profile.get("regions")}
        found[data.name] = {**facts, "of": source, "sha256": profile.get("sha256", data.digest)}
    return found


def _models(client: MlflowClient, run: Run) -> list[dict[str, Any]]:
    found = []
    for output in run.outputs.model_outputs if run.outputs is not None else []:
        model = client.get_logged_model(output.model_id)
        own = {k: v for k, v in model.tags.items() if not k.startswith("mlflow.")}
        found.append(
            {
                "name": model.name,
                "uri": model.model_uri,
                "epoch": output.step,
                "status": str(getattr(model.status, "value", model.status)),
                "tags": own,
                "metrics": {metric.key: metric.value for metric in model.metrics or []},
            }
        )
    return found


def _versions(client: MlflowClient, run: Run) -> list[dict[str, Any]]:
    found = client.search_model_versions(f"run_id = {quoted(run.info.run_id)}")
    versions = [v for v in found if v.name != BOOK]
    aliases = {
        name: client.get_registered_model(name).aliases for name in {v.name for v in versions}
    }
    return [
        {
            "model": v.name,
            "version": str(v.version),
            "aliases": sorted(a for a, n in aliases[v.name].items() if str(n) == str(v.version)),
            "uri": f"models:/{v.name}/{v.version}",
        }
        for v in sorted(versions, key=lambda v: (v.name, int(v.version)))
    ]


def _model_lines(lineage: Lineage) -> dict[str, str]:
    lines = {m["name"]: f"{m['uri']} of epoch {m['epoch']}" for m in lineage["models"]}
    for version in lineage["registered"]:
        names = "".join(f", @{alias}" for alias in version["aliases"])
        lines[version["uri"]] = f"version {version['version']} of {version['model']}{names}"
    if lineage["registered"]:
        uri = lineage["registered"][-1]["uri"]
        lines["predict with it"] = f"deconv predict FILES --model {uri}"
    elif lineage["models"]:
        lines["register it"] = f"deconv promote {lineage['run']['id']}"
    return lines


def _headline(metrics: Mapping[str, float]) -> dict[str, str]:
    shown = {}
    for metric in (f"test/{name}" for name in HEADLINE):
        if metric in metrics:
            low, high = (metrics.get(name) for name in interval_names(metric))
            span = None if low is None or high is None else (low, high)
            shown[metric] = (
                f"{show(metric, metrics[metric])}  {show_interval(metric, span)}".strip()
            )
    return shown


def _time(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000).astimezone()
    return moment.isoformat(sep=" ", timespec="seconds")


def _minutes(start: int | None, end: int | None) -> float | None:
    return None if start is None or end is None else round((end - start) / 60_000, 2)
