"""Every input format, in one table.

A new format is a module with a `Format` and a line here; `tests/plugins/reader_examples.py`
needs an example of it, on which the contract of all readers is checked.
"""

from pathlib import Path

from deconv.errors import InputError
from deconv.formats import (
    array_csv,
    bedmethyl,
    beta,
    beta_table,
    bismark,
    counts_tsv,
    cytosine_report,
    earlier_hdf5,
    h5ad,
    pat,
)
from deconv.formats.format import Format, Head

FORMATS: tuple[Format, ...] = (
    h5ad.FORMAT,
    counts_tsv.FORMAT,
    beta_table.FORMAT,
    beta.BETA,
    beta.LBETA,
    pat.FORMAT,
    bismark.FORMAT,
    cytosine_report.FORMAT,
    bedmethyl.FORMAT,
    array_csv.FORMAT,
    earlier_hdf5.FORMAT,
)

REFUSED = {
    (".bedgraph", ".bg"): "a bedGraph has no coverage: give Bismark's .cov file",
    (".bw", ".bigwig"): "a bigWig has no coverage: give the counts that it was made from",
    (".bam", ".cram", ".sam"): "alignments hold no methylation counts: extract them first",
    (".idat",): "raw array intensities: give a CSV table of beta values",
}
"""Suffixes of files that cannot work, and why."""


def find_format(path: Path) -> Format:
    """Return the format that both the suffix and the content of a file speak for.

    Raises
    ------
    InputError
        If the file is missing, empty or damaged, no format has the suffix, or the content
        is that of another.
    """
    name = path.name.lower().removesuffix(".gz")
    for suffixes, reason in REFUSED.items():
        if name.endswith(suffixes):
            raise InputError(reason, where=path)
    candidates = [f for f in FORMATS if f.has_suffix(path)]
    if not candidates:
        known = [pattern for f in FORMATS for pattern in f.patterns()]
        raise InputError(
            "unknown suffix", where=path, got=path.suffix or "none", expected=", ".join(known)
        )
    head = Head(path)
    matching = [f for f in candidates if f.looks_right(head)]
    if len(matching) == 1:
        return matching[0]
    raise InputError(
        "the content is not what the suffix says", where=path,
        got=repr(head.first[:80]) if head.lines else f"binary data {head.data[:8]!r}",
        expected=" or ".join(f"{f.name} ({f.content})" for f in candidates),
    )  # fmt: skip
