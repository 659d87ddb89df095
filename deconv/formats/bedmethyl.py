"""bedMethyl files: of modkit (18 columns) and of ENCODE (11 columns).

Spec: text without a header (or with lines before the table that begin with ``#``, ``track``
or ``browser``), plain or gzip, sorted. Columns of both: 1 ``chrom``, 2 ``start`` (0-based),
3 ``end`` (start + 1), 4 name, 5 score, 6 ``strand``, 7-9 for display. ENCODE: 10 coverage,
11 percent methylated, rounded. modkit: column 4 is the modification (``m`` 5mC, ``h``
5hmC, ``C`` both together, or with its motif, as in ``m,CG,0``), 10 valid coverage, 11
percent, 12 n modified, 13 n canonical, 14 n other modification, then five that are not
used; the strand is ``.`` where both strands are added up. Older modkit separates the last
columns by spaces, all others by tabs.
Source: https://nanoporetech.github.io/modkit/intro_pileup.html,
https://www.encodeproject.org/data-standards/wgbs/

5hmC counts as methylated: bisulfite does not tell it from 5mC, and reference atlases are
made with bisulfite. ``hydroxymethylated="unmethylated"`` counts 5mC alone. Rows of m and h
of one site state the same coverage, so one of them is used. Rows of adenine (``a``) and of
other motifs than CG are left out. The two strands of a CpG count in the region that
contains its C on the forward strand.
"""

from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from deconv.counts import RegionCounts
from deconv.errors import InputError
from deconv.formats.cpg_calls import RegionCounter
from deconv.formats.fields import Fields, read_fields
from deconv.formats.format import Format, Head, Hydroxymethylated, ReadOptions, sample_name
from deconv.regions import RegionSet

COLUMNS = "the 18 columns of modkit or the 11 of ENCODE, separated by tabs"
_SHARED = {0: "chrom", 1: "start", 2: "end", 3: "code", 5: "strand", 9: "coverage", 10: "percent"}
_MODKIT = {11: "n modified", 12: "n canonical", 13: "n other"}
_CODES = [b"m", b"h", b"C", b"m,CG,0", b"h,CG,0", b"C,CG,0"]
_POSITION = 10**10
_SUFFIXES = (".bedmethyl", ".bed")
_ROUNDING = 0.006  # of a percentage with two digits after the point
_HEADS = ("#", "track", "browser")


def read_bedmethyl(
    path: Path, regions: RegionSet, *, hydroxymethylated: Hydroxymethylated = "methylated"
) -> RegionCounts:
    """Add up the CpGs of a sample, which is named after its file.

    Parameters
    ----------
    hydroxymethylated
        What 5hmC counts as; a file that does not tell it from 5mC must leave it as it is.

    Raises
    ------
    InputError
        With file and line, if the file breaks the spec above.
    MismatchError
        If the file covers no region.
    """
    kind = _kind_of(Head(path).lines)
    if kind is None:
        raise InputError("wrong columns", where=path, expected=COLUMNS)
    columns = _SHARED | _MODKIT if kind.is_modkit else _SHARED
    counter, sites = RegionCounter(regions, path), _Sites()
    for fields in read_fields(
        path, columns, 18 if kind.is_modkit else 11,
        expected=COLUMNS, spaces=kind.spaces, n_header=kind.n_header,
    ):  # fmt: skip
        start = fields.integers("start", at_most=_POSITION)
        end = fields.integers("end", at_most=_POSITION)
        fields.refuse(end != start + 1, "not one base", "0-based, end = start + 1")
        strand = fields.words("strand", [b"+", b"-", b"."])
        fields.refuse(strand < 0, "unknown strand", "+, - or .")
        fields.refuse((strand == 1) & (start == 0), "not a cytosine of the reverse strand")
        coverage = fields.integers("coverage")
        percent = fields.decimals("percent", at_most=100)
        if kind.is_modkit:
            methylated, counted = _of_modkit(fields, coverage, percent, hydroxymethylated)
            counted = sites.first_rows(fields, counted, start, strand, coverage)
        elif hydroxymethylated == "unmethylated":
            raise InputError("bisulfite data do not tell 5hmC from 5mC", where=path)
        else:
            methylated = np.rint(coverage * percent / 100).astype(np.int64)
            counted = np.ones(len(fields), np.bool_)
        counter.add(fields, start, start - (strand == 1), methylated, coverage, counted=counted)
    return counter.counts(sample_name(path, ".bedmethyl.bed", *_SUFFIXES))


def _of_modkit(
    fields: Fields,
    coverage: Int64[np.ndarray, " L"],
    percent: np.ndarray,
    hydroxymethylated: Hydroxymethylated,
) -> tuple[Int64[np.ndarray, " L"], Bool[np.ndarray, " L"]]:
    """Return the methylated observations of each line, and which lines are of CpGs' C."""
    modified, canonical, other = (fields.integers(name) for name in _MODKIT.values())
    fields.refuse(
        modified + canonical + other != coverage,
        "modified, canonical and other do not add up to the valid coverage", COLUMNS,
    )  # fmt: skip
    fields.refuse(
        np.abs(percent - 100 * modified / np.maximum(coverage, 1)) > _ROUNDING,
        "the percentage is not that of the counts", COLUMNS,
    )  # fmt: skip
    code = fields.words("code", _CODES)
    fields.refuse(
        (code < 0) & ~_is_left_out(fields), "unknown modification", "m, h or C, such as m,CG,0"
    )
    if hydroxymethylated == "methylated":
        return coverage - canonical, code >= 0
    fields.refuse(code % 3 == 2, "5hmC is not told from 5mC", "rows of m and h")
    return np.where(code % 3 == 0, modified, other), code >= 0


def _is_left_out(fields: Fields) -> Bool[np.ndarray, " L"]:
    """Tell rows of adenine, and of C at another motif than CG."""
    k = fields.names.index("code")
    begin, length = fields.begin[k], fields.end[k] - fields.begin[k]
    letter = fields.text[begin]
    at_motif = (length > 1) & (fields.text[begin + 1] == ord(","))
    of_cytosine = np.isin(letter, np.frombuffer(b"mhC", dtype=np.uint8))
    of_adenine = letter == ord("a")
    return np.asarray((at_motif & (of_cytosine | of_adenine)) | (of_adenine & (length == 1)))


class _Sites:
    """Leaves one row of each site: those of its modifications state the same."""

    def __init__(self) -> None:
        self._chrom, self._last, self._was_again = "", np.full((5, 1), -1), False

    def first_rows(
        self,
        fields: Fields,
        counted: Bool[np.ndarray, " L"],
        start: Int64[np.ndarray, " L"],
        strand: np.ndarray,
        coverage: Int64[np.ndarray, " L"],
    ) -> Bool[np.ndarray, " L"]:
        """Return which of the counted lines are the first of their site.

        Raises
        ------
        InputError
            If rows of a site disagree, or a modification comes twice.
        """
        rows = np.flatnonzero(counted)
        if not len(rows):
            return counted
        # A site may go on in the next block, so the last row is kept until then.
        chroms, lines = zip(*fields.runs("chrom"), strict=True)
        run = np.repeat(np.arange(len(lines)), [r.stop - r.start for r in lines])[rows]
        self._last[0] = run[0] if chroms[run[0]] == self._chrom else -1
        code = fields.words("code", _CODES)[rows] % 3
        table = np.stack([run, start[rows], strand[rows], coverage[rows], code])
        before = np.concatenate([self._last, table[:, :-1]], axis=1)
        again = (table[:2] == before[:2]).all(axis=0)
        agree = (table[2:4] == before[2:4]).all(axis=0)
        two_codes = (table[4] != before[4]) & (table[4] < 2) & (before[4] < 2)
        third = again & np.concatenate([[self._was_again], again[:-1]])
        bad = np.zeros(len(fields), np.bool_)
        bad[rows] = again & (third | ~agree | ~two_codes)
        fields.refuse(bad, "rows of one site disagree, or come twice", "one of m and one of h")
        self._chrom, self._last = chroms[run[-1]], table[:, -1:].copy()
        self._was_again = bool(again[-1])
        first = counted.copy()
        first[rows[again]] = False
        return first


@dataclass(frozen=True)
class _Kind:
    is_modkit: bool
    spaces: bool
    n_header: int


def _kind_of(lines: list[str]) -> _Kind | None:
    """Tell the variant by the first line of the table; None if it is neither."""
    n_header = sum(1 for _ in takewhile(lambda line: line.startswith(_HEADS), lines))
    line = lines[n_header] if n_header < len(lines) else ""
    n_tabs, n_spaces = line.count("\t"), line.count(" ")
    if n_tabs == 17 or n_tabs + n_spaces == 17:
        return _Kind(True, n_tabs < 17, n_header)
    return _Kind(False, False, n_header) if n_tabs == 10 else None


def _looks_right(head: Head) -> bool:
    return _kind_of(head.lines) is not None


def _read(path: Path, regions: RegionSet | None, options: ReadOptions) -> RegionCounts:
    assert regions is not None  # the format needs them
    return read_bedmethyl(path, regions, hydroxymethylated=options.hydroxymethylated)


FORMAT = Format(
    name="bedMethyl",
    suffixes=_SUFFIXES,
    content=COLUMNS,
    looks_right=_looks_right,
    read=_read,
    needs="regions",
)
