"""Scenarios of the accuracy benchmark on real data with a known answer.

The folder of data is an argument; see its README for sources, licences and truths. Rows
are plain dictionaries, one per method (and sample): scenario, method, then the figures.

Shape letters: N = samples, T = tissues.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.metrics import roc_auc_score

from deconv.atlas import Atlas, build_atlas
from deconv.benchmarks.published import UxmNnls
from deconv.errors import InputError, MismatchError
from deconv.formats import read_counts
from deconv.formats.array_csv import read_array_atlas, read_array_counts
from deconv.formats.counts_tsv import label_samples
from deconv.formats.pat import read_pat
from deconv.formats.uxm_atlas import read_uxm_atlas
from deconv.metrics import PRESENT_FROM
from deconv.predictor import Deconvolution, Method

Row = dict[str, str | float | bool]
MakeMethods = Callable[[Atlas], Mapping[str, Method]]
"""Methods by name, for an atlas."""

ORIGINS = {
    "Br": ("BRCA",),
    "Cer": ("CESC", "CEAD"),  # squamous or adenocarcinoma: the biopsy's kind is not stated
    "Colo": ("COAD", "READ"),  # one disease for methylation
    "Ov": ("OV",),
}
"""Biopsies of the MetDecode dilutions, and the atlas' tumour types that name them rightly."""
TUMOURS = tuple(sorted(t for types in ORIGINS.values() for t in types))
BLANK = 0.001  # the lowest level of the dilutions; a call from `PRESENT_FROM` there is false
ORIGIN_FROM = 0.03  # of tumour in a sample, from which its origin is asked for

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


def metdecode_rows(data: Path, make_methods: MakeMethods, *, summed: bool = False) -> list[Row]:
    """Score methods on the 480 dilutions of tumours in plasma.

    With ``summed``, the reference is the sum of each type's replicates (of which are the
    figures that others state), otherwise the replicates, whose dispersion is then known.
    """
    folder = data / "metdecode"
    atlas = _metdecode_atlas(folder, summed)
    paths = sorted(folder.glob("insilico_*.tsv"))
    if not paths:
        raise InputError("no dilutions", where=folder, expected="insilico_*.tsv")
    files = {path: read_counts(path) for path in paths}
    true, origin = [], []
    for path, counts in files.items():
        for name in counts.samples.index:
            match = re.match(r"([A-Za-z]+).*_Tu([0-9.]+)$", name)
            if match is None or match[1] not in ORIGINS:
                raise InputError("not a dilution's name", where=path, got=name)
            origin.append(match[1])
            true.append(float(match[2]) / 100)
    rows = []
    for name, method in make_methods(atlas).items():
        results = [method.predict(counts) for counts in files.values()]
        tumour = np.array([t in TUMOURS for t in results[0].tissues])
        types = np.array(results[0].tissues)[tumour]
        share = np.concatenate([r.proportions for r in results])[:, tumour]
        largest = np.where(share.any(axis=1), types[share.argmax(axis=1)], "none")
        scores = metdecode_scores(
            share.sum(axis=1), np.array(true), largest=largest, origin=origin
        )
        rows.append(Row(scenario="metdecode", method=name, **scores))
    return rows


def _metdecode_atlas(folder: Path, summed: bool) -> Atlas:
    if not summed:
        return build_atlas(label_samples(read_counts(folder / "atlas-with-rep.tsv")))
    counts = read_counts(folder / "atlas.tsv")
    names = counts.samples.index
    return build_atlas(
        counts.labelled(pd.DataFrame({"tissue": names, "donor": names}, index=names))
    )


def metdecode_scores(
    fraction: Float[np.ndarray, " N"],
    true: Float[np.ndarray, " N"],
    *,
    largest: Sequence[str] | np.ndarray,
    origin: Sequence[str] | np.ndarray,
) -> dict[str, float]:
    """Compare total tumour fractions and tissues of origin with the truth.

    Parameters
    ----------
    fraction, true
        Predicted and true total tumour fraction; the true one is of an impure biopsy, so
        that even a perfect method reads high levels low.
    largest
        The tumour type with the largest predicted fraction in each sample.
    origin
        What was diluted, a key of `ORIGINS`.

    Returns
    -------
    ``mae``, a fraction; ``false_call_rate``, the share of samples at `BLANK` that are given
    `PRESENT_FROM` or more; ``auroc`` of samples with at least `PRESENT_FROM` against those
    at `BLANK`; ``origin_rate``, the share of samples with at least `ORIGIN_FROM` whose
    largest type is among the right ones of `ORIGINS` (either of two for cervix and colon),
    and ``origin_rate_Br`` and so on; ``mean_call_0.1%`` and so on, a fraction.

    Raises
    ------
    MismatchError
        If the arguments differ in length.
    """
    sizes = {len(fraction), len(true), len(largest), len(origin)}
    if len(sizes) > 1:
        raise MismatchError("fractions, truth, types and origins differ in length", got=sizes)
    blank, present = np.isclose(true, BLANK), true >= PRESENT_FROM
    asked = true >= ORIGIN_FROM
    source = np.asarray(origin)
    right = np.array([a in ORIGINS[o] for a, o in zip(largest, source, strict=True)])
    scores = {
        "mae": float(np.abs(fraction - true).mean()),
        "false_call_rate": float((fraction[blank] >= PRESENT_FROM).mean()),
        "auroc": float(roc_auc_score(present[blank | present], fraction[blank | present])),
        "origin_rate": float(right[asked].mean()),
    }
    for name in ORIGINS:
        of_name = asked & (source == name)
        if of_name.any():
            scores[f"origin_rate_{name}"] = float(right[of_name].mean())
    for level in np.unique(true):
        scores[f"mean_call_{100 * level:g}%"] = float(fraction[true == level].mean())
    return scores


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
