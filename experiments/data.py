"""From configured paths to the data of a run: split donors, atlas, mixtures, dilutions."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from deconv.atlas import Atlas, build_atlas
from deconv.build import concatenate
from deconv.counts import RegionCounts, Samples
from deconv.donors import donors_from_means
from deconv.errors import ConfigError, InputError
from deconv.evaluate import draw_mixtures
from deconv.formats import ReadOptions, read_counts
from deconv.formats.atlases import open_atlas
from deconv.mixtures import MixingEngine
from deconv.splits import Split, split_by_donor
from experiments.config import DataConfig, RunConfig

# Mixtures of different sets differ in donors; the offsets keep their draws apart too.
_SEED_OFFSET = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True)
class Dilutions:
    """Real mixtures with the known total fraction of some tissues."""

    counts: RegionCounts
    fraction: np.ndarray
    tissues: tuple[str, ...]


@dataclass(frozen=True)
class RunData:
    """All data of a run; held-out mixtures are fixed by the seed."""

    pure: Samples
    split: Split
    atlas: Atlas
    train: MixingEngine
    validation: RegionCounts
    test: RegionCounts | None
    dilutions: Dilutions | None


def load_run_data(config: RunConfig, device: torch.device) -> RunData:
    """Read, split and mix.

    Raises
    ------
    DeconvError
        If a file, a label or a setting does not fit.
    """
    data = config.data
    pure, published = _read_pure(config)
    split = split_by_donor(
        pure, n_validation=data.validation_donors, n_test=data.test_donors,
        seed=config.random_seed,
    )  # fmt: skip
    if split.validation is None:
        raise ConfigError("no donor is left for validation", where="data.validation_donors")
    atlas = build_atlas(split.train) if published is None else published
    mixtures = config.designs()

    def engine(name: str, counts: Samples) -> MixingEngine:
        seed = 10 * config.random_seed + _SEED_OFFSET[name]
        return MixingEngine(
            counts, atlas, mixtures, seed=seed, in_atlas=name == "train", device=device,
            megabytes=data.profile_megabytes,
        )  # fmt: skip

    test = None
    if split.test is not None:
        test = draw_mixtures(engine("test", split.test), data.test_mixtures)
    return RunData(
        pure=pure,
        split=split,
        atlas=atlas,
        train=engine("train", split.train),
        validation=draw_mixtures(engine("validation", split.validation), data.validation_mixtures),
        test=test,
        dilutions=_read_dilutions(data),
    )


def _read_pure(config: RunConfig) -> tuple[Samples, Atlas | None]:
    """Return pure samples, and the atlas they are drawn from if it has means only."""
    data = config.data
    path = _data_path(data)
    if path.is_dir():
        if data.reference is None:
            raise ConfigError(
                "data.path is a folder", where=path, expected="data.reference, a file in it"
            )
        path = path / data.reference
    labels = None if data.tissue_table is None else Path(data.tissue_table)
    reference = open_atlas(path, build=data.genome_build, labels=labels)
    if reference.donors is not None:
        if data.assume is not None:
            raise ConfigError(
                "the data have donors, so nothing is assumed of them", where="data.assume",
                got=data.assume.model_dump(), expected="null",
            )  # fmt: skip
        return reference.donors, None
    if data.assume is None:
        raise ConfigError(
            "the atlas has means only: how much donors differ is not known", where=path,
            expected="data.assume.rho, for example --set data.assume.rho=0.02 (the median of"
            " real atlases is .02 to .03)",
        )  # fmt: skip
    rho = np.full(len(reference.regions), data.assume.rho, dtype=np.float32)
    atlas = replace(reference.atlas, rho=rho)
    pure = donors_from_means(
        atlas, n_donors=data.assume.donors, coverage=data.assume.coverage,
        seed=config.random_seed,
    )  # fmt: skip
    return pure, atlas


def _data_path(data: DataConfig) -> Path:
    if data.path is None:
        raise ConfigError("no data", where="data.path", expected="a path, for example by --data")
    return Path(data.path)


def _read_dilutions(data: DataConfig) -> Dilutions | None:
    if data.dilutions is None:
        return None
    path = _data_path(data)
    folder = path if path.is_dir() else path.parent
    files = sorted(folder.glob(data.dilutions.files))
    if not files:
        raise InputError("no dilutions", where=folder, expected=data.dilutions.files)
    counts = concatenate(
        [read_counts(f, options=ReadOptions(build=data.genome_build)) for f in files]
    )
    percents = []
    for name in counts.samples.index:
        match = re.search(data.dilutions.percent_in_name, name)
        if match is None:
            raise InputError(
                "no percentage in a sample name", where=folder, got=name,
                expected=f"a match of {data.dilutions.percent_in_name}",
            )  # fmt: skip
        percents.append(float(match.group(1)))
    return Dilutions(counts, np.array(percents) / 100, data.dilutions.tissues)
