"""What may go: failed and deleted runs, and checkpoints that a later one supersedes.

Nothing of a registered model ever goes: not its run, not its files. ``mlflow gc`` alone does
not serve: it takes only what somebody has deleted before, looks at no registry, and reaches
artifacts through a server that runs.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from mlflow.entities import LoggedModelStatus
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sqlalchemy.engine import Connection

from experiments.server.artifacts import ArtifactError, locate
from experiments.server.database import connected, database_url
from experiments.server.process import locked
from experiments.server.settings import ServerSettings

RESUME_FILE = "checkpoint_last.pt"
"""Of a run: what it would go on from. A finished run does not go on."""
_RUN_ID, _MODEL_ID = re.compile(r"\b[0-9a-f]{32}\b"), re.compile(r"\bm-[0-9a-f]{32}\b")


@dataclass(frozen=True)
class Waste:
    """One thing that may go."""

    kind: str
    """`run`, `model` (MLflow's logged model) or `file`."""
    name: str
    why: str
    place: str
    """The URI of its artifacts."""


def collect(settings: ServerSettings, *, days: float, dry_run: bool) -> tuple[list[Waste], int]:
    """Find what is older than ``days`` and may go, and delete it for good unless ``dry_run``.

    What a crash leaves undone, the next call does.

    Returns
    -------
    What may go, and the number of files deleted.

    Raises
    ------
    DatabaseError, ArtifactError
        If the database or the artifacts cannot be read, or refuse.
    """
    with locked(settings):
        waste = find_waste(settings, days=days)
        return waste, 0 if dry_run else _remove(settings, waste)


def find_waste(settings: ServerSettings, *, days: float) -> list[Waste]:
    """Return what is older than ``days`` and may go, models before the runs they are of."""
    limit = int((datetime.now(UTC) - timedelta(days=days)).timestamp() * 1000)
    with connected(settings) as connection:
        kept_runs, kept_models = _registered(connection)
        runs = _old_runs(connection, limit, kept_runs)
        models = _old_models(connection, limit, kept_runs, kept_models, {r.name for r in runs})
        finished = _finished_runs(connection, limit, kept_runs)
    files = [
        Waste("file", f"{run}/{RESUME_FILE}", "its run is finished", f"{uri}/{RESUME_FILE}")
        for run, uri in finished
    ]
    found = [*(file for file in files if _exists(settings, file.place)), *models, *runs]
    return [item for item in found if _is_ours(settings, item.place)]


def _registered(connection: Connection) -> tuple[set[str], set[str]]:
    """Return the runs and logged models of all registered versions."""
    runs: set[str] = set()
    models: set[str] = set()
    versions = "SELECT run_id, source, storage_location FROM model_versions"
    for values in connection.execute(sa.text(versions)):
        text = " ".join(value for value in values if value)
        models |= set(_MODEL_ID.findall(text))
        runs |= set(_RUN_ID.findall(text))
    made_by = connection.execute(sa.text("SELECT model_id, source_run_id FROM logged_models"))
    return runs | {run for model, run in made_by if run and model in models}, models


def _old_runs(connection: Connection, limit: int, kept: set[str]) -> list[Waste]:
    query = sa.text(
        "SELECT run_uuid, lifecycle_stage, artifact_uri FROM runs "
        "WHERE lifecycle_stage = 'deleted' AND deleted_time < :limit "
        "OR lifecycle_stage = 'active' AND status = 'FAILED' AND end_time < :limit "
        "ORDER BY start_time, run_uuid"
    )
    rows = [row for row in connection.execute(query, {"limit": limit}) if row.run_uuid not in kept]
    gone = {row.run_uuid for row in rows}
    children = connection.execute(
        sa.text("SELECT value, run_uuid FROM tags WHERE key = :key"), {"key": MLFLOW_PARENT_RUN_ID}
    )
    parents = {parent for parent, child in children if child not in gone}
    return [
        Waste("run", run, "deleted" if stage == "deleted" else "failed", uri)
        for run, stage, uri in rows
        if run not in parents
    ]


def _old_models(
    connection: Connection, limit: int, kept_runs: set[str], kept: set[str], gone: set[str]
) -> list[Waste]:
    """Return the models of a run that goes, deleted ones, and all but a run's newest of a name."""
    rows = connection.execute(
        sa.text(
            "SELECT model_id, name, source_run_id AS run, lifecycle_stage = 'active' AS active, "
            "status = :ready AS ready, last_updated_timestamp_ms AS changed, artifact_location "
            "FROM logged_models ORDER BY creation_timestamp_ms, model_id"
        ),
        {"ready": LoggedModelStatus.READY.to_int()},
    ).all()
    newest = {(row.run, row.name): row.model_id for row in rows if row.ready and row.active}
    found = []
    for row in rows:
        last = newest.get((row.run, row.name))
        if row.model_id in kept or row.run in kept_runs:
            continue
        if row.run in gone:
            why = "its run goes"
        elif row.changed >= limit:
            continue
        elif not row.active:
            why = "deleted"
        elif row.run and row.ready and row.model_id != last:
            why = f"superseded by {last}"
        else:
            continue
        found.append(Waste("model", row.model_id, why, row.artifact_location))
    return found


def _finished_runs(connection: Connection, limit: int, kept: set[str]) -> list[tuple[str, str]]:
    query = sa.text(
        "SELECT run_uuid, artifact_uri FROM runs "
        "WHERE status = 'FINISHED' AND lifecycle_stage = 'active' AND end_time < :limit"
    )
    rows = connection.execute(query, {"limit": limit})
    return [(run, uri) for run, uri in rows if run not in kept]


def _exists(settings: ServerSettings, uri: str) -> bool:
    try:
        store, name = locate(uri, settings)
    except ArtifactError:
        return False
    return store.has(name)


def _is_ours(settings: ServerSettings, uri: str) -> bool:
    """Whether the artifacts can be deleted from here; what is elsewhere stays, with its run."""
    try:
        locate(uri, settings)
    except ArtifactError:
        return False
    return True


def _remove(settings: ServerSettings, waste: Iterable[Waste]) -> int:
    """Delete artifacts, then what the database has of them."""
    url = database_url(settings).render_as_string(hide_password=False)
    store: Any = SqlAlchemyStore(url, settings.artifacts)  # type: ignore[no-untyped-call]
    n_files = 0
    try:
        for item in waste:
            artifacts, name = locate(item.place, settings)
            names = [name] if item.kind == "file" else list(artifacts.names(name))
            for file in names:
                artifacts.delete(file)
            n_files += len(names)
            if item.kind == "model":
                store._hard_delete_logged_model(item.name)
            elif item.kind == "run":
                store._hard_delete_run(item.name)
    finally:
        store._dispose_engine()
    return n_files
