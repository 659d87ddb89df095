"""Scenarios of the accuracy benchmark on real data with a known answer.

The folder of data is an argument; see its README for sources, licences and truths. Rows
are plain dictionaries, one per method (and sample): scenario, method, then the figures.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from deconv.atlas import Atlas
from deconv.benchmarks.published import UxmNnls
from deconv.formats.array_csv import read_array_atlas, read_array_counts
from deconv.formats.pat import read_pat
from deconv.formats.uxm_atlas import read_uxm_atlas
from deconv.predictor import Deconvolution, Method

Row = dict[str, str | float | bool]
MakeMethods = Callable[[Atlas], Mapping[str, Method]]
"""Methods by name, for an atlas."""

UXM_SAMPLES = {
    "Liver_STL011": ("Liver-Hep", "Endothel"),
    "Lung_STL002": ("Lung-Ep-Alveo", "Endothel", "Blood-Mono+Macro"),
}
"""Samples, and the cell types reported of each; the first is the organ's own."""
UXM_COMMON = ("Adipocytes", "Blood-", "Endothel", "Eryth-prog", "Megakaryocytes", "Smooth-Musc")
"""Beginnings of the names of cell types that are in every organ."""

MIXTURES: dict[str, dict[str, float]] = {
    "Monocytes90_Breast10": {"Monocytes_EPIC": 0.9, "Breast": 0.1},
    "Adipo60Kidney30Prost10": {"Adipocytes": 0.6, "Kidney": 0.3, "Prostate": 0.1},
    "Eryth50Lung25GI25": {"Erythrocyte_progenitors": 0.5, "Lung_cells": 0.25, "Upper_GI": 0.25},
}
"""The truth about meth_atlas' noise-free examples."""
RIGHT_WITHIN = 0.01


def uxm_scores(data: Path, make_methods: MakeMethods) -> list[Row]:
    """Report what methods say of a liver and a lung sample, with the UXM atlas.

    Returns
    -------
    A row per sample and method, those of `make_methods` and ``uxm_nnls``, the published one
    (`UxmNnls`): the fractions of the cell types of `UXM_SAMPLES`;
    ``largest``, the cell type with the largest fraction, and ``is_largest``, whether it is
    the organ's own; ``is_largest_specific``, the same without the types of `UXM_COMMON`
    (the published figures of the lung have more endothelium than alveolar epithelium).
    """
    uxm = read_uxm_atlas(data / "uxm" / "Atlas.U25.l4.hg19.tsv", build="hg19")
    methods = {**make_methods(uxm.atlas), "uxm_nnls": UxmNnls(uxm)}
    rows = []
    for sample, types in UXM_SAMPLES.items():
        counts = read_pat(data / "uxm" / f"{sample}.pat.gz", uxm.atlas.regions)
        for name, method in methods.items():
            share = _by_tissue(method.predict(counts), 0)
            specific = [t for t in share if not t.startswith(UXM_COMMON)]
            largest = max(share, key=lambda t: share[t])
            rows.append(
                Row(
                    scenario=f"uxm {sample}",
                    method=name,
                    **{t: share[t] for t in types},
                    largest=largest,
                    is_largest=largest == types[0],
                    is_largest_specific=max(specific, key=lambda t: share[t]) == types[0],
                )
            )
    return rows


def meth_atlas_scores(data: Path, make_methods: MakeMethods) -> list[Row]:
    """Score methods on the three noise-free array mixtures.

    Returns
    -------
    A row per method: ``largest_error_points`` over all tissues and mixtures, in percentage
    points, that of each mixture, and ``all_right``: every fraction within `RIGHT_WITHIN`.
    """
    atlas = read_array_atlas(data / "meth_atlas" / "reference_atlas.csv")
    counts = read_array_counts(data / "meth_atlas" / "examples.csv")
    names = list(counts.samples.index)
    rows = []
    for name, method in make_methods(atlas).items():
        result = method.predict(counts)
        error = {}
        for mixture, truth in MIXTURES.items():
            share = _by_tissue(result, names.index(mixture))
            error[mixture] = max(abs(share[t] - truth.get(t, 0)) for t in share)
        worst = max(error.values())
        points = {f"error_points_{m}": 100 * e for m, e in error.items()}
        rows.append(
            Row(
                scenario="meth_atlas",
                method=name,
                largest_error_points=100 * worst,
                **points,
                all_right=worst <= RIGHT_WITHIN,
            )
        )
    return rows


def _by_tissue(result: Deconvolution, row: int) -> dict[str, float]:
    return dict(zip(result.tissues, result.proportions[row].tolist(), strict=True))
