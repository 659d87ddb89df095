"""What a format is: how its files are known, what they need, and what reads them."""

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from deconv.configuration import Section
from deconv.counts import MAX_COUNT, Samples
from deconv.errors import ConfigError, InputError
from deconv.files import require_file
from deconv.genomes import known_build
from deconv.regions import UNKNOWN_BUILD, Feature, RegionSet

PSEUDO_COVERAGE = 100
"""Observations that a mean is taken to stand for where nothing else is stated."""

_HEAD_BYTES = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"

Hydroxymethylated = Literal["methylated", "unmethylated"]


class ReadOptions(Section):
    """What a file does not say itself.

    Attributes
    ----------
    build
        Genome build of the file.
    min_cpgs, u_at_most, m_at_least
        A fragment has this many known CpGs or more; it is U with at most, M with at least
        that share of them methylated.
    pseudo_coverage
        Observations that a mean stands for, in formats that have no coverage.
    hydroxymethylated
        What 5hmC counts as, in formats that tell it from 5mC.
    """

    build: str = UNKNOWN_BUILD
    min_cpgs: int = Field(4, ge=1)
    u_at_most: float = Field(0.25, ge=0, le=1)
    m_at_least: float = Field(0.75, ge=0, le=1)
    pseudo_coverage: int | None = Field(None, ge=1, le=MAX_COUNT)
    hydroxymethylated: Hydroxymethylated = "methylated"

    @field_validator("build")
    @classmethod
    def _named_as_here(cls, build: str) -> str:
        return known_build(build)

    @model_validator(mode="after")
    def _is_u_or_m(self) -> "ReadOptions":
        if self.u_at_most >= self.m_at_least:
            raise ValueError("u_at_most must be less than m_at_least")
        return self


def make_options(**values: Any) -> ReadOptions:
    """Return options that a person gave on the command line.

    Raises
    ------
    ConfigError
        With the first option that does not fit.
    """
    try:
        return ReadOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        names = [str(part).replace("_", "-") for part in first["loc"]]
        raise ConfigError(
            first["msg"].removeprefix("Value error, "),
            where=f"--{names[0]}" if names else "options", got=first["input"] if names else None,
        ) from error  # fmt: skip


def _not_told(path: Path) -> str:
    return UNKNOWN_BUILD


@dataclass(frozen=True)
class Head:
    """The beginning of a file, unpacked: what its format is told from.

    Raises
    ------
    InputError
        If the file is missing or empty, or is gzip while its name says otherwise.
    """

    path: Path

    @cached_property
    def data(self) -> bytes:
        """Up to 64 KiB."""
        require_file(self.path)
        says_gzip = self.path.suffix.lower() == ".gz"
        with self.path.open("rb") as file:
            start = file.read(_HEAD_BYTES)
        is_gzip = start.startswith(_GZIP_MAGIC)
        if says_gzip != is_gzip:
            raise InputError(
                "suffix and content disagree", where=self.path,
                got=f"a {'gzip' if is_gzip else 'plain'} file",
                expected="gzip, as .gz says" if says_gzip else "a name that ends with .gz",
            )  # fmt: skip
        if is_gzip:
            try:
                with gzip.open(self.path) as packed:
                    start = packed.read(_HEAD_BYTES)
            except (OSError, EOFError, zlib.error) as error:
                raise InputError(
                    "the file is damaged or cut off", where=self.path, got=error
                ) from error
            if not start:
                raise InputError("the file is empty", where=self.path)
        return start

    @cached_property
    def lines(self) -> list[str]:
        """The first lines without their ends, whole ones only; none of a binary file."""
        if b"\0" in self.data:
            return []
        text = self.data.decode("utf-8-sig", errors="replace")
        lines = text.splitlines()
        return lines[:-1] if len(self.data) == _HEAD_BYTES and len(lines) > 1 else lines

    @property
    def first(self) -> str:
        """The first line, empty of a binary file."""
        return self.lines[0] if self.lines else ""


@dataclass(frozen=True)
class Format:
    """A kind of file with sample counts.

    Attributes
    ----------
    name
        As a person would call it.
    suffixes
        Ends of its files' names, in lower case; ``.gz`` may follow where ``gzip`` is set.
    content
        What the files hold, in a few words, for the error about one that holds another.
    looks_right
        Whether a file begins like this format; of formats that share a suffix, no more
        than one may say so.
    read
        Reads a file, at the given regions where it ``needs`` them. May raise any
        `DeconvError`.
    needs
        ``nothing``: the file has regions of its own, and regions are not passed on.
        ``regions``: it has positions of the genome, which are summed in regions.
        ``cpgs``: it has CpGs by their indices, so regions must have theirs.
        ``panel``: it does not name its regions: the given ones are they, in its order.
    features
        What can be counted in it.
    build_of
        Tells the genome build of a file at a glance, "unknown" where it does not.
    """

    name: str
    suffixes: tuple[str, ...]
    content: str
    looks_right: Callable[[Head], bool]
    read: Callable[[Path, RegionSet | None, ReadOptions], Samples]
    needs: Literal["nothing", "regions", "cpgs", "panel"] = "nothing"
    features: tuple[Feature, ...] = ("cpg",)
    build_of: Callable[[Path], str] = _not_told
    gzip: bool = True

    def has_suffix(self, path: Path) -> bool:
        """Whether a name ends as those of this format do."""
        return path.name.lower().removesuffix(".gz" if self.gzip else "").endswith(self.suffixes)

    def patterns(self) -> list[str]:
        """Return the suffixes, for people."""
        return [s + ("[.gz]" if self.gzip else "") for s in self.suffixes]


def sample_name(path: Path, *suffixes: str) -> str:
    """Return a file's name without ``.gz`` and the first of these suffixes that it has."""
    name = path.name
    if name.lower().endswith(".gz"):
        name = name[:-3]
    for suffix in suffixes:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def regions_of(regions: RegionSet | None) -> RegionSet:
    """Return the regions that a format which needs them is always given."""
    assert regions is not None
    return regions
