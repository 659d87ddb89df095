"""Atlases of means on disk: AnnData ``.h5ad`` files, tissues x regions.

Layout (version 1): ``X`` the means as they are stated, NaN where there is none; ``obs`` the
tissues, with ``n_donors`` where it is known; ``var`` the regions, with ``target``, ``rho``
and ``profile`` where they are known; ``uns/deconv`` kind "atlas", version, genome build,
feature and content hash. Atlases of donors are stored as their counts, see `deconv.store`.
"""

import hashlib
import warnings
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd

from deconv.errors import DeconvError, InputError
from deconv.files import replacing, require_file
from deconv.reference import Means
from deconv.regions import RegionSet
from deconv.store import KEY

VERSION = 1
KIND = "atlas"


def is_atlas_of_means(path: Path) -> bool:
    """Whether an ``.h5ad`` says that it holds means; not whether it is whole.

    Raises
    ------
    InputError
        If it is missing or not HDF5.
    """
    require_file(path)
    try:
        with h5py.File(path) as file:
            kind = file.get(f"uns/{KEY}/kind")
            return kind is not None and kind[()] == KIND.encode()
    except OSError as error:
        raise InputError(
            "damaged, truncated or not an .h5ad file", where=path, got=error
        ) from error


def write_means(means: Means, path: Path) -> None:
    """Write means, whole or not at all."""
    var = pd.DataFrame(means.regions.columns(), index=means.regions.names)
    if means.target is not None:
        var["target"] = means.target.astype(str)
    if means.dispersion is not None:
        var["rho"], var["profile"] = means.dispersion
    obs = pd.DataFrame(index=pd.Index(means.tissues))
    if means.n_donors is not None:
        obs["n_donors"] = means.n_donors
    header = {
        "kind": KIND, "format_version": VERSION, "build": means.regions.build,
        "feature": means.regions.feature, "content_hash": _content_hash(means),
    }  # fmt: skip
    table = anndata.AnnData(X=means.stated, obs=obs, var=var, uns={KEY: header})
    with replacing(path) as temporary:
        table.write_h5ad(temporary)


def read_means_h5ad(path: Path) -> Means:
    """Read what `write_means` wrote.

    Raises
    ------
    InputError
        If it is damaged, of another version, or not what was written.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of AnnData, about files other tools wrote
            table = anndata.read_h5ad(path)
        header = table.uns[KEY]
        if header["format_version"] != VERSION:
            raise InputError(
                "another format version", got=header["format_version"], expected=VERSION
            )
        var, obs = table.var, table.obs
        dispersion = None
        if "rho" in var:
            dispersion = (var["rho"].to_numpy(np.float32), var["profile"].to_numpy(np.float32))
        means = Means(
            tuple(map(str, obs.index)),
            RegionSet.from_columns(var, str(header["build"]), header["feature"]),
            np.asarray(table.X, dtype=np.float64),
            var["target"].to_numpy(dtype=str) if "target" in var else None,
            dispersion,
            obs["n_donors"].to_numpy() if "n_donors" in obs else None,
        )
    except DeconvError as error:
        raise InputError(str(error), where=path) from error
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("damaged, or a part is missing", where=path, got=reason) from error
    if _content_hash(means) != header["content_hash"]:
        raise InputError("the content is not what was written (damaged or edited)", where=path)
    return means


def _content_hash(means: Means) -> str:
    digest = hashlib.sha256(means.atlas.content_hash.encode())
    digest.update(np.ascontiguousarray(means.stated, dtype="<f8").tobytes())
    if means.target is not None:
        digest.update("\n".join(means.target).encode())
    return digest.hexdigest()
