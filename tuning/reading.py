"""Studies and SLURM profiles read from YAML, and compared with what was begun."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from deconv.configuration import Section
from deconv.errors import ConfigError
from tuning.config import SlurmProfile, StudyConfig

Read = TypeVar("Read", bound=Section)


def load_study_config(path: Path) -> StudyConfig:
    """Read a study's configuration; errors name the file and the key."""
    return read_section(StudyConfig, path)


def load_profile(name: str) -> SlurmProfile:
    """Read a SLURM profile: a file, or the name of one that comes with the package."""
    packaged = Path(__file__).with_name("configs")
    names = sorted(p.stem.removeprefix("slurm_") for p in packaged.glob("slurm_*.yaml"))
    if name in names:
        return read_section(SlurmProfile, packaged / f"slurm_{name}.yaml")
    if not Path(name).is_file():
        raise ConfigError(
            "no such SLURM profile", got=name, expected=f"a YAML file, or {', '.join(names)}"
        )
    return read_section(SlurmProfile, Path(name))


def read_section(kind: type[Read], path: Path) -> Read:
    """Read a section from a YAML file.

    Raises
    ------
    ConfigError
        If the file, a key or a value is wrong.
    """
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("not a readable file", where=path, got=error) from error
    except yaml.YAMLError as error:
        raise ConfigError("not YAML", where=path, got=str(error).replace("\n", " ")) from error
    if not isinstance(raw, dict):
        raise ConfigError("no settings", where=path, expected=", ".join(kind.model_fields))
    return validated(kind, raw, path)


def validated(kind: type[Read], raw: dict[str, Any], where: object) -> Read:
    """Check settings as a whole; errors name the key."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = sorted(error.errors(), key=lambda p: p["type"] != "extra_forbidden")[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            raise ConfigError(
                f"unknown key {key}", where=where, expected=", ".join(kind.model_fields)
            ) from error
        got = repr(first["input"]) if key else None
        raise ConfigError(f"{key}: {message}" if key else message, where=where, got=got) from error


def absolute(config: StudyConfig) -> StudyConfig:
    """Return the configuration with paths that hold from any directory."""
    changed: dict[str, Any] = {"directory": str(Path(config.directory).absolute())}
    if config.data is not None:
        changed["data"] = str(Path(config.data).absolute())
    if Path(config.base).is_file():
        changed["base"] = str(Path(config.base).absolute())
    return validated(StudyConfig, {**config.model_dump(mode="json"), **changed}, config.name)


def require_same(begun: StudyConfig, now: StudyConfig, folder: Path) -> None:
    """Refuse settings that differ from those of a study in more than budget and place.

    Raises
    ------
    ConfigError
        If they do.
    """
    free = {"budget", "where", "finish", "lease_seconds"}
    then, given = (c.model_dump(mode="json", exclude=free) for c in (begun, now))
    for key, value in given.items():
        if then[key] != value:
            raise ConfigError(
                f"{key} differs from the study's (it goes on as it began)", where=folder,
                got=value, expected=f"{then[key]}, or another name",
            )  # fmt: skip
