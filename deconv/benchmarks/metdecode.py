"""MetDecode's dilutions of tumours in plasma as a scenario of the accuracy benchmark.

Shape letters: N = samples, T = tissues.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from sklearn.metrics import roc_auc_score

from deconv.atlas import Atlas, build_atlas
from deconv.benchmarks.oracle import ORACLE, solve_told
from deconv.benchmarks.real import MakeMethods, Row
from deconv.counts import RegionCounts
from deconv.errors import InputError, MismatchError
from deconv.estimator import AtlasEstimator
from deconv.formats import read_counts
from deconv.formats.counts_tsv import label_samples
from deconv.metrics import PRESENT_FROM

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


def metdecode_rows(data: Path, make_methods: MakeMethods, *, summed: bool = False) -> list[Row]:
    """Score methods on the 480 dilutions of tumours in plasma, and one that is told the tumour.

    With ``summed``, the reference is the sum of each type's replicates (of which are the
    figures that others state), otherwise the replicates, whose dispersion is then known.
    """
    folder = data / "metdecode"
    atlas = _metdecode_atlas(folder, summed)
    paths = sorted(folder.glob("insilico_*.tsv"))
    if not paths:
        raise InputError("no dilutions", where=folder, expected="insilico_*.tsv")
    files = [read_counts(path) for path in paths]
    labels = [_labels(path, counts) for path, counts in zip(paths, files, strict=True)]
    answers = {
        name: [method.predict(counts) for counts in files]
        for name, method in make_methods(atlas).items()
    }
    estimator = AtlasEstimator(atlas, read_effect=1.0)
    answers[ORACLE] = [
        solve_told(estimator, atlas, counts, _told(atlas, origin))
        for counts, (origin, _) in zip(files, labels, strict=True)
    ]
    origin = [name for names, _ in labels for name in names]
    true = np.array([level for _, levels in labels for level in levels])
    rows = []
    for name, results in answers.items():
        tumour = np.array([t in TUMOURS for t in results[0].tissues])
        types = np.array(results[0].tissues)[tumour]
        share = np.concatenate([r.proportions for r in results])[:, tumour]
        largest = np.where(share.any(axis=1), types[share.argmax(axis=1)], "none")
        scores = metdecode_scores(share.sum(axis=1), true, largest=largest, origin=origin)
        rows.append(Row(scenario="metdecode", method=name, **scores))
    return rows


def _labels(path: Path, counts: RegionCounts) -> tuple[list[str], list[float]]:
    """Return the biopsy and the tumour fraction that samples' names state."""
    origins, levels = [], []
    for name in counts.samples.index:
        match = re.match(r"([A-Za-z]+).*_Tu([0-9.]+)$", name)
        if match is None or match[1] not in ORIGINS:
            raise InputError("not a dilution's name", where=path, got=name)
        origins.append(match[1])
        levels.append(float(match[2]) / 100)
    return origins, levels


def _told(atlas: Atlas, origins: Sequence[str]) -> Bool[np.ndarray, "N T"]:
    """Return what may be in each sample: the right tumour types, and whatever is no tumour."""
    return np.array([
        [t not in TUMOURS or t in ORIGINS[origin] for t in atlas.tissues] for origin in origins
    ])  # fmt: skip


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
    and ``origin_rate_Br`` and so on; ``read_as_Br`` and so on, predicted over true fractions
    of those; ``mean_call_0.1%`` and so on, a fraction.

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
            scores[f"read_as_{name}"] = float(fraction[of_name].sum() / true[of_name].sum())
    for level in np.unique(true):
        scores[f"mean_call_{100 * level:g}%"] = float(fraction[true == level].mean())
    return scores
