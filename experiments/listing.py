"""What is registered, and how `production` moved: for people who look."""

import json
from dataclasses import dataclass

import mlflow
from mlflow.tracking import MlflowClient
from rich.table import Table

from experiments.moves import QUALIFIED, Move, moves
from experiments.names import MODEL_NAME
from experiments.store import require_answer, tracking_errors


@dataclass(frozen=True)
class Listed:
    """A registered version; ``verdicts`` are rule, whether met, and reason."""

    version: int
    aliases: list[str]
    run_id: str
    metrics: dict[str, float]
    qualified: bool
    decided_at: str
    decided_by: str
    why: str
    refused: str
    verdicts: list[list[str | bool]]


@tracking_errors("cannot read the registry")
def list_models() -> list[Listed]:
    """Return all versions, the latest first.

    Raises
    ------
    TrackingError
        If the registry cannot be read.
    """
    require_answer(mlflow.get_registry_uri())
    client = MlflowClient()
    versions = client.search_model_versions(f"name = '{MODEL_NAME}'")
    aliases = client.get_registered_model(MODEL_NAME).aliases if versions else {}
    listed = []
    for found in sorted(versions, key=lambda v: -int(v.version)):
        tags = found.tags
        listed.append(
            Listed(
                version=int(found.version),
                aliases=sorted(a for a, v in aliases.items() if str(v) == str(found.version)),
                run_id=str(found.run_id),
                metrics={k: float(v) for k, v in tags.items() if k.startswith(("test/", "best/"))},
                qualified=QUALIFIED in tags,
                decided_at=tags.get("decided.at", ""),
                decided_by=tags.get("decided.by", ""),
                why=tags.get("decided.why", ""),
                refused=tags.get("refused", ""),
                verdicts=json.loads(tags["verdicts"]) if "verdicts" in tags else [],
            )
        )
    return listed


@tracking_errors("cannot read the registry")
def list_moves() -> list[Move]:
    """Return the moves of `production`, the latest first; errors as `list_models`."""
    require_answer(mlflow.get_registry_uri())
    return moves(MlflowClient())


def models_table(found: list[Listed]) -> Table:
    """Return the versions as a table."""
    table = Table(title=f"versions of {MODEL_NAME}", title_justify="left")
    for column in ("version", "alias", "test MAE", "F1", "run", "decided", "by", "refused or why"):
        table.add_column(column, overflow="fold")
    for m in found:
        mae, f1 = m.metrics.get("test/mae"), m.metrics.get("test/presence_f1")
        table.add_row(
            str(m.version), ", ".join(m.aliases), "" if mae is None else f"{100 * mae:.3f} %",
            "" if f1 is None else f"{f1:.3f}", m.run_id[:8], m.decided_at, m.decided_by,
            m.refused or m.why,
        )  # fmt: skip
    return table


def moves_table(moved: list[Move]) -> Table:
    """Return the moves as a table."""
    table = Table(title="moves of production", title_justify="left")
    for column in ("when", "from", "to", "who", "why", "state"):
        table.add_column(column, overflow="fold")
    for m in moved:
        table.add_row(m.when, m.from_version, m.to_version, m.who, m.why, m.stage)
    return table
