"""What a person wants to know of a server: does it run, on what, with how much in it."""

from experiments.server.artifacts import open_artifacts
from experiments.server.database import latest_revision, read_contents
from experiments.server.process import is_healthy, running
from experiments.server.settings import ServerSettings


def describe(settings: ServerSettings) -> tuple[bool, dict[str, str]]:
    """Return whether the server answers, and what can be said of it.

    Raises
    ------
    DatabaseError, ArtifactError
        If the database or the artifacts cannot be reached: the server cannot either.
    """
    started = running(settings)
    up = started is not None and is_healthy(started.address)
    facts = {"server": "not running"}
    if started is not None:
        facts["server"] = f"{started.address}, process {started.pid}"
        facts["server"] += "" if up else ", does not answer"
        facts["MLflow"] = started.version
    facts["database"] = settings.database
    if settings.is_sqlite and not settings.sqlite_file.is_file():
        facts["database"] += ", made at the first start"
    else:
        contents = read_contents(settings)
        latest = latest_revision()
        facts["experiments"] = str(contents.experiments)
        facts["runs"] = str(contents.runs)
        facts["registered models"] = str(contents.registered_models)
        known = contents.revision or "none, made at the first start"
        facts["schema"] = (
            known if contents.revision in (None, latest) else f"{known}, not {latest}"
        )
    store = open_artifacts(settings)
    store.check()
    facts["artifacts"] = store.root
    facts["users"] = "with passwords" if settings.auth else "anyone on this machine"
    return up, facts
