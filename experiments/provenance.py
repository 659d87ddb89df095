"""What a run was made with: code, machine, versions."""

import getpass
import os
import platform
import socket
import subprocess
from importlib import metadata
from pathlib import Path

_LIBRARIES = ("torch", "numpy", "mlflow", "anndata", "scipy")


def code_tags() -> dict[str, str]:
    """Return the git commit of the code and whether it was changed since.

    A package outside a git checkout says so; a virtual environment inside some
    checkout is not mistaken for it.
    """
    package = Path(__file__).parent
    tracked = _git(package, "ls-files", "--error-unmatch", Path(__file__).name)
    commit = _git(package, "rev-parse", "HEAD") if tracked else None
    if commit is None:
        return {"git.commit": "unknown", "git.dirty": "unknown"}
    changed = _git(package, "status", "--porcelain")
    return {
        "git.commit": commit,
        "git.dirty": str(bool(changed)).lower(),
        "mlflow.source.git.commit": commit,
    }


def machine_tags() -> dict[str, str]:
    """Return host, Python, library versions and, on a cluster, the job."""
    tags = {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.name": "deconv train",
        "mlflow.source.type": "LOCAL",
        "host": socket.gethostname(),
        "version.python": platform.python_version(),
    }
    tags |= {f"version.{name}": metadata.version(name) for name in _LIBRARIES}
    tags["version.deconv"] = metadata.version("deconv")
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_NODELIST"):
        if name in os.environ:
            tags[name.lower().replace("_", ".", 1)] = os.environ[name]
    return tags


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # no git here, or not a checkout
    return done.stdout.strip()
