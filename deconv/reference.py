"""What is known of pure tissues: donors with their counts, or published means only.

`deconv.formats.open_atlas` reads one; an `Atlas` is what methods need of it.

Shape letters: T = tissues, R = regions.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Float
from pydantic import ValidationError, field_validator

from deconv.atlas import Atlas, atlas_from_means, build_atlas
from deconv.configuration import Section
from deconv.counts import Samples
from deconv.errors import ConfigError, InputError
from deconv.regions import RegionSet


@dataclass(frozen=True, eq=False)
class Means:
    """Published means of tissues, without donors.

    Attributes
    ----------
    stated
        Mean of each tissue (success fraction, for fragments), NaN where none is given.
    target
        The tissue that each region marks, where that is said.
    dispersion
        ``rho`` and ``profile`` of an `Atlas`, where they are known and not assumed.
    n_donors
        Donors behind each tissue's mean, where known.
    """

    tissues: tuple[str, ...]
    regions: RegionSet
    stated: Float[np.ndarray, "T R"]
    target: np.ndarray | None = None
    dispersion: tuple[np.ndarray, np.ndarray] | None = None
    n_donors: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check that there is something to tell apart."""
        twice = sorted({t for t in self.tissues if self.tissues.count(t) > 1})
        if twice:
            raise InputError("a tissue occurs twice", got=twice[0])
        _require_two(self.tissues)

    @cached_property
    def atlas(self) -> Atlas:
        """The means with what is not stated filled in; see `atlas_from_means`."""
        atlas = atlas_from_means(self.tissues, self.regions, self.stated)
        if self.dispersion is not None:
            rho, profile = (np.asarray(a, dtype=np.float32) for a in self.dispersion)
            atlas = replace(atlas, rho=rho, profile=profile)
        if self.n_donors is not None:
            atlas = replace(atlas, n_donors=np.asarray(self.n_donors, dtype=np.int64))
        return atlas


@dataclass(frozen=True, eq=False)
class Reference:
    """An atlas with what it is made of: either ``donors`` or ``means``."""

    donors: Samples | None = None
    means: Means | None = None

    def __post_init__(self) -> None:
        """Check that it is one of the two, and that donors are labelled."""
        if (self.donors is None) == (self.means is None):
            raise ValueError("a reference has donors or means")
        if self.donors is not None:
            self.donors.require("tissue", "donor")
            _require_two(self.tissues)

    @cached_property
    def atlas(self) -> Atlas:
        """The profiles; of donors, all of them are averaged."""
        if self.donors is not None:
            return build_atlas(self.donors)
        assert self.means is not None
        return self.means.atlas

    @property
    def regions(self) -> RegionSet:
        """Where the tissues were measured."""
        source = self.donors if self.donors is not None else self.means
        assert source is not None
        return source.regions

    @property
    def target(self) -> np.ndarray | None:
        """The tissue that each region is said to mark."""
        return None if self.means is None else self.means.target

    @property
    def tissues(self) -> tuple[str, ...]:
        """Names, in the order of the atlas."""
        if self.donors is not None:
            return tuple(sorted(self.donors.samples["tissue"].unique()))
        assert self.means is not None
        return self.means.tissues


def _require_two(tissues: Sequence[str]) -> None:
    if len(tissues) < 2:
        raise InputError("an atlas needs two tissues or more", got=", ".join(tissues) or "none")


class TissueMap(Section):
    """Which tissues of a reference become one, and which are left out."""

    merge: Mapping[str, tuple[str, ...]] = {}
    drop: tuple[str, ...] = ()

    @field_validator("merge")
    @classmethod
    def _has_names_and_members(
        cls, merge: Mapping[str, tuple[str, ...]]
    ) -> Mapping[str, tuple[str, ...]]:
        for new, members in merge.items():
            if not new.strip():
                raise ValueError("a new name is empty")
            if not members:
                raise ValueError(f"nothing becomes {new}")
        return merge


def read_tissue_map(path: Path) -> TissueMap:
    """Read a YAML file with ``merge`` (new name: [tissues]) and ``drop`` ([tissues]).

    Raises
    ------
    ConfigError
        If it is not such a file.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TissueMap.model_validate(raw)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).replace("\n", " ")
        raise ConfigError("not a readable YAML file", where=path, got=reason) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            f"not a map of tissues: {place}: {reason}", where=path,
            expected="merge: {new name: [tissue, tissue]} and drop: [tissue]",
        ) from error  # fmt: skip


def regroup(reference: Reference, wanted: TissueMap, *, where: object = None) -> Reference:
    """Return a reference whose tissues are merged or dropped.

    Donors keep their samples and change tissue; of means, the members' mean is taken, each
    member counting alike.

    Raises
    ------
    ConfigError
        If a tissue is not in the reference, is named twice, a new name is that of another
        tissue, or fewer than two tissues are left.
    """
    new_name = _new_names(reference.tissues, wanted, where)
    left = sorted(set(new_name.values()))
    if len(left) < 2:
        raise ConfigError(
            "the map leaves fewer than two tissues", where=where, got=", ".join(left) or "none",
            expected="two or more: one alone is no atlas",
        )  # fmt: skip
    if reference.donors is not None:
        tissue = reference.donors.samples["tissue"]
        kept = reference.donors.take(np.flatnonzero(tissue.isin(list(new_name)).to_numpy()))
        samples = kept.samples.assign(tissue=kept.samples["tissue"].map(new_name))
        return Reference(donors=kept.labelled(samples))
    assert reference.means is not None
    return Reference(means=_regrouped_means(reference.means, new_name))


def _regrouped_means(means: Means, new_name: Mapping[str, str]) -> Means:
    tissues = tuple(dict.fromkeys(new_name.values()))
    rows = {t: [i for i, old in enumerate(means.tissues) if new_name.get(old) == t]
            for t in tissues}  # fmt: skip
    total = np.stack([np.nansum(means.stated[rows[t]], axis=0) for t in tissues])
    n = np.stack([np.isfinite(means.stated[rows[t]]).sum(axis=0) for t in tissues])
    stated = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    target = means.target
    if target is not None:
        target = np.array([new_name.get(str(t), "") for t in target])
    n_donors = means.n_donors
    if n_donors is not None:
        n_donors = np.array([n_donors[rows[t]].sum() for t in tissues])
    return Means(tissues, means.regions, stated, target, means.dispersion, n_donors)


def _new_names(tissues: Sequence[str], wanted: TissueMap, where: object) -> dict[str, str]:
    """Return the new name of each tissue that is kept."""
    named = [*wanted.drop, *(old for members in wanted.merge.values() for old in members)]
    for old in named:
        if old not in tissues:
            close = difflib.get_close_matches(old, tissues, n=1)
            raise ConfigError(
                "no such tissue in the atlas", where=where, got=old,
                expected=f"{close[0]}?" if close else ", ".join(tissues),
            )  # fmt: skip
        if named.count(old) > 1:
            raise ConfigError("a tissue is named twice", where=where, got=old)
    for new in wanted.merge:
        if new in tissues and new not in named:
            raise ConfigError(
                "a new name is that of a tissue that stays", where=where, got=new,
                expected=f"another name, or {new} among the tissues merged",
            )  # fmt: skip
    merged = {old: new for new, members in wanted.merge.items() for old in members}
    return {t: merged.get(t, t) for t in tissues if t not in wanted.drop}
