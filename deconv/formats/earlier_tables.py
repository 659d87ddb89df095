"""The small tables in files of the earlier attempt; `deconv.formats.earlier_hdf5` has the spec.

Each raises an InputError if a table is missing or does not fit the samples.
"""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from deconv.errors import InputError

_AUGMENTED = re.compile(r"[-_.]aug(?:mented)?[-_.]?\d+$", re.IGNORECASE)


def pure_tables(path: Path, file: h5py.File, n_samples: int) -> tuple[pd.DataFrame, None]:
    """Return tissue and donor of each sample, and that proportions are not known."""
    tissues = _texts(_find(path, file, "tissue_names"))
    labels = np.asarray(_find(path, file, "tissue_labels"))
    names = _texts(_find(path, file, "sample_names"))
    versions = np.asarray(_find(path, file, "aug_versions"))
    for what, column in (("tissue_labels", labels), ("aug_versions", versions)):
        if column.dtype.kind not in "iu" or column.shape != (n_samples,):
            raise InputError(
                f"{what} are not a whole number a sample", where=path,
                got=f"{column.dtype} {column.shape}", expected=f"integers ({n_samples},)",
            )  # fmt: skip
    if len(names) != n_samples:
        raise InputError(
            "not a name a sample", where=f"{path}, sample_names", got=len(names),
            expected=n_samples,
        )  # fmt: skip
    if labels.min() < 0 or labels.max() >= len(tissues):
        raise InputError(
            "a label is of no tissue", where=f"{path}, tissue_labels",
            got=labels.max(), expected=f"0 to {len(tissues) - 1}",
        )  # fmt: skip
    tissue = [tissues[label] for label in labels]
    donors = [_AUGMENTED.sub("", name) or name for name in names]
    unique = [f"{d}-aug{v}" if v else d for d, v in zip(donors, versions.tolist(), strict=True)]
    if len(set(unique)) < n_samples:  # a donor may have given several tissues
        unique = [f"{t}-{name}" for t, name in zip(tissue, unique, strict=True)]
    index = pd.Index(unique, name="sample")
    if not index.is_unique:
        raise InputError(
            "a sample comes twice", where=f"{path}, sample_names",
            got=index[index.duplicated()][0], expected="another name, tissue or aug_version",
        )  # fmt: skip
    return pd.DataFrame({"tissue": tissue, "donor": donors}, index=index), None


def mixture_tables(
    path: Path, file: h5py.File, n_samples: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return names of the mixtures, and their true proportions."""
    tissues = _texts(_find(path, file, "tissue_names"))
    true = np.asarray(_find(path, file, "true_proportions"), dtype=np.float64)
    if true.shape != (n_samples, len(tissues)):
        raise InputError(
            "not a proportion of each tissue in each sample", where=f"{path}, true_proportions",
            got=true.shape, expected=(n_samples, len(tissues)),
        )  # fmt: skip
    if not ((true >= 0).all() and np.allclose(true.sum(axis=1), 1, atol=1e-3)):
        raise InputError(
            "proportions do not add up to 1", where=f"{path}, true_proportions",
            got=true.sum(axis=1).min(),
        )  # fmt: skip
    index = pd.Index([f"mixture-{i}" for i in range(n_samples)], name="sample")
    return pd.DataFrame(index=index), pd.DataFrame(true, index=index, columns=tissues)


def _find(path: Path, file: h5py.File, name: str) -> Any:
    """Return a small table from the root, its attributes or those of a group, or a group."""
    groups = [file, *(item for item in file.values() if isinstance(item, h5py.Group))]
    for group in groups:
        for place in (group, group.attrs):
            if name in place:
                return place[name][()] if place is group else place[name]
    raise InputError(f"no {name}", where=path, got=", ".join(sorted(file)) or "nothing")


def _texts(values: Any) -> list[str]:
    return [v.decode() if isinstance(v, bytes) else str(v) for v in np.asarray(values).tolist()]
