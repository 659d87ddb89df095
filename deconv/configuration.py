"""The base of every configuration section, which lives beside what it configures; its reading."""

import difflib
from collections.abc import Hashable
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from deconv.errors import ConfigError


class Section(BaseModel):
    """A frozen set of settings that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


AnySection = TypeVar("AnySection", bound=Section)


def parse_yaml(text: str | bytes) -> Any:
    """Read YAML; of a key that is there twice, PyYAML itself would take the last.

    Raises
    ------
    yaml.YAMLError
        If it is not YAML, or a key is there twice.
    """
    return yaml.load(text, Loader=_Loader)


def validate(kind: type[AnySection], raw: Any, where: object) -> AnySection:
    """Check settings; the errors name the key.

    Raises
    ------
    ConfigError
        If a key is unknown or missing, or a value is wrong.
    """
    try:
        return kind.model_validate(raw)
    except ConfigError as error:  # of a check that has a message of its own
        raise ConfigError(str(error), where=where) from error
    except ValidationError as error:
        # A mistyped key is named first: what it leaves missing is only its consequence.
        problems = sorted(error.errors(), key=lambda p: p["type"] != "extra_forbidden")
        first = problems[0]
        key = ".".join(str(part) for part in first["loc"])
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        if first["type"] == "extra_forbidden":
            raise ConfigError(
                f"unknown key {key}{more}", where=where, expected=_nearest(kind, first["loc"])
            ) from error
        message = first["msg"].removeprefix("Value error, ")
        if not key:
            raise ConfigError(message, where=where) from error
        if first["type"] == "missing":
            raise ConfigError(f"{key} is missing{more}", where=where) from error
        raise ConfigError(
            f"{key}: {message}{more}", where=where, got=repr(first["input"])
        ) from error


def _nearest(kind: type[Section], location: tuple[int | str, ...]) -> str:
    """Name the keys that the mistyped one may have meant."""
    section: Any = kind
    for part in location[:-1]:
        if not isinstance(part, int):  # the place in a list of sections
            section = _inner(section, part)
    keys = list(section.model_fields)
    close = difflib.get_close_matches(str(location[-1]), keys, n=1)
    return f"{close[0]}?" if close else ", ".join(keys)


def _inner(section: Any, key: str) -> Any:
    """Return what is in a section, or a dictionary of sections, under a key."""
    if get_origin(section) is dict:
        return get_args(section)[1]
    found = section.model_fields[key].annotation
    if get_origin(found) is dict:
        return found
    several = [a for a in get_args(found) if isinstance(a, type) and issubclass(a, Section)]
    return several[0] if several else found  # one that may be left out, or a list of them


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping of keys that differ."""
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} is there twice", key.start_mark
                )
        return super().construct_mapping(node, deep)
