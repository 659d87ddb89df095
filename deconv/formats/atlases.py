"""Every form of an atlas, opened by one function."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from deconv.atlas import Atlas
from deconv.errors import InputError, MismatchError, from_file
from deconv.files import require_file, require_place
from deconv.formats import open_counts
from deconv.formats.array_csv import ARRAY_BUILD, read_array_means
from deconv.formats.atlas_h5ad import is_atlas_of_means, read_means_h5ad, write_means
from deconv.formats.atlas_tables import read_atlas_table, read_means, write_atlas_table
from deconv.formats.builds import of_build
from deconv.formats.counts_tsv import labelled
from deconv.formats.format import Head, ReadOptions
from deconv.formats.region_file import MARK
from deconv.genomes import known_build
from deconv.reference import Means, Reference
from deconv.regions import UNKNOWN_BUILD
from deconv.store import write_h5ad

SUFFIXES = (".h5ad", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".csv", ".csv.gz")


def open_atlas(
    path: Path,
    *,
    build: str = UNKNOWN_BUILD,
    labels: Path | None = None,
    pseudo_coverage: int | None = None,
) -> Reference:
    """Open an atlas of any known form.

    Parameters
    ----------
    path
        Pure samples (a file with regions of its own, such as ``.h5ad`` or a counts table), an
        atlas of `write_atlas`, or published means: a table of UXM, of nanomix or of
        ``beta_to_table``, or a CSV of array probes.
    build
        Genome build, for files that do not state it.
    labels
        Of pure samples: a table of their tissues and donors, see
        `deconv.formats.counts_tsv.label_samples`.
    pseudo_coverage
        Of pure samples in formats without coverage, see `ReadOptions`.

    Raises
    ------
    InputError
        If the suffix is not known, the file breaks its spec, or it does not say which
        tissue a sample is of.
    MismatchError
        If the file states another build, or coordinates do not exist in it.
    """
    means = _means(path, build)
    if means is not None and labels is not None:
        raise InputError(
            "the file names its tissues, so a table of labels says nothing of it", where=path,
            got=labels, expected="samples without tissues, or no table",
        )  # fmt: skip
    if isinstance(means, Means):
        return Reference(means=means)
    if means is not None:
        return means
    options = ReadOptions(build=build, pseudo_coverage=pseudo_coverage)
    counts = open_counts(path, options=options)
    donors = labelled(counts, labels, where=path)
    with from_file(path):
        return Reference(donors=donors)


def _means(path: Path, build: str) -> Means | Reference | None:
    """Open what is not just counts; None if it may be those."""
    require_file(path)
    build, name = known_build(build), path.name.lower()
    if name.endswith(".h5ad"):
        if not is_atlas_of_means(path):
            return None
        means = read_means_h5ad(path)
        return replace(means, regions=of_build(means.regions, build, where=path))
    if not name.removesuffix(".gz").endswith((".csv", ".tsv", ".txt")):
        return None
    header = Head(path).first
    if header.startswith(MARK):
        return read_atlas_table(path, build=build)
    if name.removesuffix(".gz").endswith(".csv"):
        if build not in (UNKNOWN_BUILD, ARRAY_BUILD):
            raise MismatchError(
                "array probes have no coordinates of a genome build", where=path, got=build,
                expected=f"{ARRAY_BUILD}, or no build",
            )  # fmt: skip
        return read_array_means(path)
    names = [n.strip().lower() for n in header.split("\t")]
    is_counts = any(n.endswith(("_meth", "_depth")) for n in names)
    if names[1:3] != ["start", "end"] or is_counts:
        return None
    return read_means(path, build=build)


def reference_of(atlas: Atlas) -> Reference:
    """Return an atlas whose donors are gone, such as a model's, with all that it knows."""
    return Reference(
        means=Means(
            atlas.tissues,
            atlas.regions,
            atlas.mean.astype(np.float64),
            dispersion=(atlas.rho, atlas.profile),
            n_donors=atlas.n_donors,
        )
    )


def require_atlas_name(path: Path) -> None:
    """Refuse a name that no atlas can be written under, before the work is done.

    Raises
    ------
    InputError
        If it ends with none of ``.h5ad``, ``.tsv`` and ``.tsv.gz``, or see
        `deconv.files.require_place`.
    """
    if not path.name.lower().endswith((".h5ad", ".tsv", ".tsv.gz")):
        raise InputError(
            "unknown suffix", where=path, got=path.suffix or "none",
            expected=".h5ad, .tsv or .tsv.gz",
        )  # fmt: skip
    require_place(path)


def write_atlas(reference: Reference, path: Path) -> None:
    """Write all that an atlas is made of, whole or not at all; `open_atlas` reads it.

    Raises
    ------
    InputError
        See `require_atlas_name`.
    """
    require_atlas_name(path)
    if not path.name.lower().endswith(".h5ad"):
        write_atlas_table(reference, path)
    elif reference.means is not None:
        write_means(reference.means, path)
    elif reference.donors is not None:
        write_h5ad(reference.donors, path)
