"""What a run was made with: code, machine, versions."""

import getpass
import json
import os
import platform
import shutil
import socket
import subprocess
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

_PACKAGES = ("deconv", "experiments", "tuning", "mlruns_config", "pyproject.toml")
RELEASE = "code.release"
"""Tag of a run whose code is not of a git checkout: ``true``, or why it may have been changed."""
_LIBRARIES = ("torch", "numpy", "mlflow", "anndata", "scipy")


def code_tags() -> dict[str, str]:
    """Return the git commit of the code and whether the code was changed since.

    A package outside a git checkout says so; a virtual environment inside some
    checkout is not mistaken for it. `RELEASE` then tells whether it is a release.
    """
    root = _checkout()
    if root is None:
        release = _not_a_release() or "true"
        return {"git.commit": "unknown", "git.dirty": "unknown", RELEASE: release}
    commit = _git(root, "rev-parse", "HEAD") or "unknown"
    changed = _git(root, "status", "--porcelain", "--", *_PACKAGES)
    return {
        "git.commit": commit,
        "git.dirty": "unknown" if changed is None else str(bool(changed)).lower(),
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


def code_diff() -> str:
    """Return how the code differs from its commit, new files included; "" if it does not.

    ``git apply`` takes it.
    """
    root = _checkout()
    if root is None:
        return ""
    index = root / (_git(root, "rev-parse", "--git-path", "index") or "")
    paths = [name for name in _PACKAGES if (root / name).exists()]
    with TemporaryDirectory() as folder:
        # In an index of its own, new files can be added without touching the user's.
        own = Path(shutil.copy2(index, Path(folder) / "index"))
        _git(root, "add", "--intent-to-add", "--", *paths, index=own)
        found = _git(root, "diff", "HEAD", "--", *paths, index=own)
    return f"{found}\n" if found else ""


def environment() -> str:
    """Return every installed distribution with its version, as ``pip install -r`` reads it."""
    found = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    return "".join(f"{name}=={found[name]}\n" for name in sorted(found, key=str.lower))


def _checkout() -> Path | None:
    package = Path(__file__).parent
    if _git(package, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    root = _git(package, "rev-parse", "--show-toplevel")
    return None if root is None else Path(root)


def _not_a_release() -> str:
    """Return why code that git does not tell of may have been changed; empty if it was installed.

    Without git on the PATH, a checkout would pass for a release.
    """
    package = Path(__file__).resolve().parent
    above = next((p for p in package.parents if (p / ".git").exists()), None)
    if above is not None and _git(package, "rev-parse", "--git-dir") is None:
        return f"git cannot be asked about the checkout {above}"
    url = metadata.distribution("deconv").read_text("direct_url.json") or "{}"
    if json.loads(url).get("dir_info", {}).get("editable"):
        return "an editable installation that git does not know"
    return ""


def _git(folder: Path, *arguments: str, index: Path | None = None) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True,
            errors="replace",
            env=None if index is None else {**os.environ, "GIT_INDEX_FILE": str(index)},
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None  # no git here, or not a checkout
    return done.stdout.rstrip("\n")
