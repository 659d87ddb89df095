"""Bismark's genome-wide cytosine reports: ``CpG_report.txt`` and ``CX_report.txt``.

Spec: tab-separated text without a header, plain or gzip, sorted. Columns ``chrom``,
``position`` (1-based), ``strand`` (``+`` or ``-``), ``n methylated``, ``n unmethylated``,
``context`` (CG, CHG or CHH) and ``trinucleotide`` (the base and the two after it on its
strand). All cytosines of the context are listed, also those without coverage.
Source: https://felixkrueger.github.io/Bismark/options/genome_wide_cytosine_reports/

Only CG is counted; the two strands of a CpG count in the region that contains its C on the
forward strand. Other contexts (CX reports have them) are hardly methylated in mammals but
for neurons and stem cells, so that the share of their observations that is converted
estimates the bisulfite conversion, for quality control.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Int

from deconv.counts import RegionCounts
from deconv.formats.cpg_calls import RegionCounter
from deconv.formats.fields import Fields, read_fields
from deconv.formats.format import Format, Head, ReadOptions, sample_name
from deconv.regions import RegionSet

COLUMNS = (
    "chrom, position, strand, n methylated, n unmethylated, context and trinucleotide, "
    "separated by tabs"
)
_NAMES = (
    "chrom", "position", "strand", "n methylated", "n unmethylated", "context", "trinucleotide"
)  # fmt: skip
_SUFFIXES = ("cpg_report.txt", "cx_report.txt", "cytosine_report.txt")
_CG = 0
_POSITION = 10**10


def read_cytosine_report(path: Path, regions: RegionSet) -> RegionCounts:
    """Add up the CpGs of a sample, which is named after its file.

    Returns
    -------
    Counts of one sample. Where the file has covered cytosines outside CpGs, the sample table
    has a column ``conversion``: the unmethylated share of those observations.

    Raises
    ------
    InputError
        With file and line, if the file breaks the spec above.
    MismatchError
        If the file covers no region.
    """
    counter = RegionCounter(regions, path)
    n_methylated, n_observed = 0, 0  # outside CpGs; as Python integers they cannot overflow
    for fields in read_fields(path, dict(enumerate(_NAMES)), len(_NAMES), expected=COLUMNS):
        position = fields.integers("position", at_most=_POSITION)
        strand = fields.words("strand", [b"+", b"-"])
        fields.refuse(strand < 0, "unknown strand", "+ or -")
        fields.refuse(position < 1 + strand, "not a position", "1-based")
        methylated = fields.integers("n methylated")
        coverage = methylated + fields.integers("n unmethylated")
        is_cpg = _contexts(fields) == _CG
        counter.add(fields, position, position - 1 - strand, methylated, coverage, counted=is_cpg)
        n_methylated += int(methylated[~is_cpg].sum())
        n_observed += int(coverage[~is_cpg].sum())
    conversion = {"conversion": 1 - n_methylated / n_observed} if n_observed else {}
    return counter.counts(sample_name(path, *(f".{s}" for s in _SUFFIXES)), **conversion)


def _contexts(fields: Fields) -> Int[np.ndarray, " L"]:
    """Return the context of each line, which the trinucleotide must confirm."""
    context = fields.words("context", [b"CG", b"CHG", b"CHH"])
    fields.refuse(context < 0, "unknown context", "CG, CHG or CHH")
    letters = fields.letters("trinucleotide", 3)
    known = np.isin(letters, np.frombuffer(b"ACGTN", dtype=np.uint8)).all(axis=0)
    is_g = letters == ord("G")
    of_letters = np.where(is_g[1], _CG, np.where(is_g[2], 1, 2))
    fields.refuse(
        ~known | (letters[0] != ord("C")) | (of_letters != context),
        "context and trinucleotide disagree", COLUMNS,
    )  # fmt: skip
    return context


def _looks_right(head: Head) -> bool:
    columns = head.first.split("\t")
    return len(columns) == 7 and columns[2] in ("+", "-")


def _read(path: Path, regions: RegionSet | None, options: ReadOptions) -> RegionCounts:
    assert regions is not None  # the format needs them
    return read_cytosine_report(path, regions)


FORMAT = Format(
    name="cytosine report",
    suffixes=_SUFFIXES,
    content=f"lines of {COLUMNS}",
    looks_right=_looks_right,
    read=_read,
    needs="regions",
)
