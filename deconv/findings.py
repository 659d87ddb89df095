"""What is wrong with samples, or doubtful, in words: how bad, about what, and why.

Each check is a function of what `deconv.quality` measured.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from deconv.quality import Measured, same_counts

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

NOT_ALL, FEW_OBSERVED, SHALLOW = 0.9, 0.5, 1.0
"""Share of regions observed below which it is said, and below which a sample is doubtful;
mean coverage below which it is."""
MISFIT, NO_FIT, UNRELATED = 3.0, 5.0, 0.3
"""Misfit from which a sample is doubtful; misfit, and correlation, at which it is no sample of
this atlas. Of real samples, misfit is up to 1.3; with regions shuffled, 6 and more (measured
on the liver, lung, plasma and array samples of the tests' data)."""
RELATED = 0.6
"""Correlation with the mean of the others from which, as a median, samples are of one kind."""
CONVERSION_DOUBTFUL, CONVERSION_FAILED = 0.99, 0.95
"""Bisulfite conversion below which a sample is doubtful, or useless."""
_SAME, _MIN_BATCH, _OUTLYING = 0.5, 5, 5.0
_SEXES = {"m": "male", "male": "male", "xy": "male", "f": "female", "female": "female",
          "xx": "female"}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know, about a sample, or a file if it names one."""

    severity: Severity
    check: str
    sample: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def find(measured: Measured) -> list[Finding]:
    """Return everything that is wrong or doubtful, the worst first."""
    checks: tuple[Callable[[Measured], Iterator[Finding]], ...] = (
        coverage, unseen, markers, conversion, sex, duplicates, outliers, strangers,
    )  # fmt: skip
    return ranked([finding for check in checks for finding in check(measured)])


def ranked(findings: list[Finding]) -> list[Finding]:
    """Return findings with the worst first, otherwise in their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def coverage(measured: Measured) -> Iterator[Finding]:
    """Say how many regions are empty, and whether the sample is shallow."""
    n_regions = measured.n_regions
    for name, row in measured.table.iterrows():
        n_empty = n_regions - row["n_observed"]
        reason = f"{n_empty:,} of {n_regions:,} regions have no observation"
        if n_empty == n_regions:
            yield Finding("error", "coverage", str(name), reason)
        elif n_empty > (1 - FEW_OBSERVED) * n_regions:
            yield Finding("warning", "coverage", str(name), reason)
        elif n_empty > (1 - NOT_ALL) * n_regions:
            yield Finding("note", "coverage", str(name), reason)
        if 0 < row["coverage"] < SHALLOW:
            reason = f"shallow: {row['coverage']:.2f} observations per region on average"
            yield Finding("warning", "coverage", str(name), reason)


def unseen(measured: Measured) -> Iterator[Finding]:
    """Say how many regions no sample observes, where there are several."""
    if measured.alike is None or len(measured.table) < 2:
        return
    n_unseen = int((measured.alike.n_seen == 0).sum())
    if n_unseen:
        reason = f"{n_unseen:,} of {measured.n_regions:,} regions are observed in no sample"
        yield Finding("note", "coverage", "all samples", reason)


def markers(measured: Measured) -> Iterator[Finding]:
    """Name the tissues of which too few informative regions are observed."""
    for name, observed, assessable in zip(
        measured.table.index, measured.observed, measured.assessable, strict=True
    ):
        hidden = np.flatnonzero(~assessable)
        if hidden.size and observed.any():
            listed = ", ".join(
                f"{measured.tissues[t]} ({observed[t]} of {measured.n_informative[t]}"
                " informative regions observed)"
                for t in hidden
            )
            yield Finding("warning", "markers", str(name), f"not assessable: {listed}")


def conversion(measured: Measured) -> Iterator[Finding]:
    """Judge bisulfite conversion, where it is stated."""
    if "conversion" not in measured.table:
        return
    for name, stated in measured.table["conversion"].items():
        if pd.isna(stated) or stated == "":
            continue
        value = pd.to_numeric(stated, errors="coerce")
        share = value / 100 if value > 1 else value
        if not 0 <= share <= 1:
            reason = f"conversion is no fraction or percentage: {stated!r}"
            yield Finding("error", "conversion", str(name), reason)
        elif share < CONVERSION_DOUBTFUL:
            severity: Severity = "error" if share < CONVERSION_FAILED else "warning"
            reason = (
                f"bisulfite conversion {share:.1%}, below {CONVERSION_DOUBTFUL:.0%}:"
                " unconverted reads look methylated"
            )
            yield Finding(severity, "conversion", str(name), reason)


def sex(measured: Measured) -> Iterator[Finding]:
    """Compare sex, told by chromosome Y, with what is stated and between a donor's samples."""
    table = measured.table
    if "stated_sex" in table:
        for name, row in table.iterrows():
            stated = row["stated_sex"]
            if pd.isna(stated) or stated == "":
                continue
            known = _SEXES.get(str(stated).lower())
            if known is None:
                reason = f"sex is stated as {stated!r}, which is none of male and female"
                yield Finding("warning", "sex", str(name), reason)
            elif row["sex"] not in ("", known):
                reason = f"stated as {known}, but chromosome Y says {row['sex']}: mixed up?"
                yield Finding("error", "sex", str(name), reason)
    if "donor" in table:
        told = table[table["sex"] != ""]
        for donor, rows in told.groupby("donor", sort=False):
            if rows["sex"].nunique() > 1:
                listed = ", ".join(f"{n} {s}" for n, s in rows["sex"].items())
                reason = f"samples of donor {donor} differ in sex ({listed}): mixed up?"
                yield Finding("error", "sex", str(rows.index[0]), reason)


def duplicates(measured: Measured) -> Iterator[Finding]:
    """Find the same data, whole or in most regions, under two names."""
    table = measured.table
    donors = table.get("donor")
    seen: dict[str, int] = {}
    for i, (name, content) in enumerate(table["content"].items()):
        if not table["n_observed"].iloc[i]:
            continue
        other = seen.setdefault(content, i)
        what = "has the same data as"
        if other == i:
            share = same_counts(measured.signature[i], measured.signature[:i])
            alike = np.flatnonzero(share >= _SAME)
            if not alike.size:
                continue
            other = int(alike[0])
            what = f"has the same counts in {share[other]:.0%} of the regions as"
        reason = f"{what} {table.index[other]}"
        pair = [] if donors is None else donors.iloc[np.array([i, other])].dropna().tolist()
        if len(set(pair)) > 1:
            reason += f", but is of donor {pair[0]}, not {pair[1]}: mixed up?"
        yield Finding("warning", "duplicates", str(name), reason)


def outliers(measured: Measured) -> Iterator[Finding]:
    """Find samples that the atlas does not explain, or much worse than the others."""
    table = measured.table
    misfit = table["misfit"]
    known = misfit.dropna()
    typical = float(known.median()) if len(known) else np.nan
    spread = 1.4826 * float((known - typical).abs().median()) if len(known) else np.nan
    limit = max(typical + _OUTLYING * spread, 2 * typical)
    for name, row in table.iterrows():
        value, relation = row["misfit"], row["correlation"]
        if value > NO_FIT and relation < UNRELATED:
            reason = (
                f"does not resemble the atlas (misfit {value:.1f}, correlation {relation:.2f}):"
                " another genome build, counts the wrong way round, or no sample of these tissues"
            )
            yield Finding("error", "outliers", str(name), reason)
        elif value > MISFIT:
            reason = (
                f"fits no mixture of the atlas' tissues well (misfit {value:.1f}; good samples"
                " have about 1): a tissue that the atlas lacks, or noise"
            )
            yield Finding("warning", "outliers", str(name), reason)
        elif len(known) >= _MIN_BATCH and value > limit:
            reason = f"fits much worse than the other samples (misfit {value:.2f}, their median "
            yield Finding("warning", "outliers", str(name), f"{reason}{typical:.2f})")


def strangers(measured: Measured) -> Iterator[Finding]:
    """Find samples that resemble none of the others, where no atlas tells what is wrong.

    A patient with half of the DNA from a tumour does resemble healthy ones, so this finds
    data that are wrong, not people who are ill.
    """
    if measured.alike is None or measured.tissues:
        return
    judged = (measured.table["coverage"] >= SHALLOW).to_numpy()
    relation = measured.alike.relation
    known = relation[judged & np.isfinite(relation)]
    if len(known) < _MIN_BATCH or np.median(known) < RELATED:
        return
    for name, value in zip(measured.table.index, np.where(judged, relation, np.nan), strict=True):
        if value < UNRELATED:
            reason = (
                f"does not resemble the other samples (correlation {value:.2f}, their median"
                f" {np.median(known):.2f}): another genome build, counts the wrong way round, or"
                " other tissues"
            )
            yield Finding("warning", "outliers", str(name), reason)
