"""Every form of an atlas, opened by one function."""

from pathlib import Path

from deconv.errors import InputError
from deconv.files import require_file
from deconv.formats.array_csv import ARRAY_BUILD, read_array_means
from deconv.formats.atlas_h5ad import is_atlas_of_means, read_means_h5ad, write_means
from deconv.formats.atlas_tables import MARK, read_atlas_table, read_means, write_atlas_table
from deconv.formats.counts_tsv import label_samples, read_counts_tsv
from deconv.formats.format import Head
from deconv.reference import Reference
from deconv.regions import UNKNOWN_BUILD
from deconv.store import write_h5ad
from deconv.stored import open_h5ad

SUFFIXES = (".h5ad", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".csv", ".csv.gz")


def open_atlas(path: Path, *, build: str = UNKNOWN_BUILD, labels: Path | None = None) -> Reference:
    """Open an atlas of any known form.

    Parameters
    ----------
    path
        Pure samples (``.h5ad`` or a counts table), an atlas of `write_atlas`, or published
        means: a table of UXM, of nanomix or of ``beta_to_table``, or a CSV of array probes.
    build
        Genome build, for files that do not state it.
    labels
        Of pure samples: a table of their tissues and donors, see
        `deconv.formats.counts_tsv.label_samples`.

    Raises
    ------
    InputError
        If the suffix is not known, the file breaks its spec, states another build, or does
        not say which tissue a sample is of.
    MismatchError
        If coordinates do not exist in the build.
    """
    require_file(path)
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError(
            "not an atlas", where=path, got=path.suffix or "no suffix",
            expected=", ".join(SUFFIXES),
        )  # fmt: skip
    reference = _open(path, build, labels)
    if build not in (UNKNOWN_BUILD, reference.regions.build):
        raise InputError(
            "the file states another genome build",
            where=path, got=reference.regions.build, expected=build,
        )  # fmt: skip
    return reference


def _open(path: Path, build: str, labels: Path | None) -> Reference:
    if path.suffix.lower() == ".h5ad":
        if is_atlas_of_means(path):
            return Reference(means=read_means_h5ad(path))
        counts = open_h5ad(path)
        if "tissue" not in counts.samples or labels is not None:
            return Reference(donors=label_samples(counts, labels))
        return Reference(donors=counts)
    header = Head(path).first
    if header.startswith(MARK):
        return read_atlas_table(path, build=build)
    if path.name.lower().removesuffix(".gz").endswith(".csv"):
        if build not in (UNKNOWN_BUILD, ARRAY_BUILD):
            raise InputError(
                "array probes have no coordinates of a genome build", where=path, got=build,
                expected=f"{ARRAY_BUILD}, or no build",
            )  # fmt: skip
        return Reference(means=read_array_means(path))
    if "_METH" in header.upper():
        return Reference(donors=label_samples(read_counts_tsv(path, build=build), labels))
    return Reference(means=read_means(path, build=build))


def write_atlas(reference: Reference, path: Path) -> None:
    """Write all that an atlas is made of, whole or not at all; `open_atlas` reads it.

    Raises
    ------
    InputError
        If the name ends with none of ``.h5ad``, ``.tsv`` and ``.tsv.gz``.
    """
    name = path.name.lower()
    if name.endswith((".tsv", ".tsv.gz")):
        write_atlas_table(reference, path)
    elif name.endswith(".h5ad"):
        if reference.means is not None:
            write_means(reference.means, path)
        elif reference.donors is not None:
            write_h5ad(reference.donors, path)
    else:
        raise InputError(
            "unknown suffix", where=path, got=path.suffix or "none",
            expected=".h5ad, .tsv or .tsv.gz",
        )  # fmt: skip
