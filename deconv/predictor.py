"""One interface for all methods: counts in, proportions and presence calls out.

Shape letters: N = samples, T = tissues, R = regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float

from deconv.atlas import Atlas
from deconv.calibrate import Calibration
from deconv.certainty import (
    FLAGGED_FROM,
    Certainty,
    certainty,
    misfit_score,
)
from deconv.counts import RegionCounts
from deconv.errors import InputError
from deconv.inference import answers, calls_from, explained, run_network
from deconv.metrics import PRESENT_FROM
from deconv.model import TwoStageNetwork
from deconv.output import Output, called, hard_proportions

CERTAINTY_COLUMNS = (
    "presence_probability", "interval_low", "interval_high", "limit_of_detection", "out_of_atlas",
)  # fmt: skip
"""Columns of `Deconvolution.table` that only some methods have."""
MIN_OVERLAP = 0.9
"""Share of a model's regions that data must have; the rest count as not observed."""


@dataclass(frozen=True)
class Deconvolution:
    """What a method says of samples; ``presence`` are probabilities, if it has them.

    Proportions sum to 1, or with ``certainty`` to 1 less the fraction out of the atlas.
    """

    tissues: tuple[str, ...]
    proportions: Float[np.ndarray, "N T"]
    call: Bool[np.ndarray, "N T"]
    presence: Float[np.ndarray, "N T"] | None = None
    certainty: Certainty | None = None

    def table(self, samples: pd.Index) -> pd.DataFrame:
        """Return a row per sample and tissue, as `deconv predict` writes it."""
        n_samples, n_tissues = self.proportions.shape
        columns = {
            "sample": np.repeat(samples.to_numpy(), n_tissues),
            "tissue": np.tile(self.tissues, n_samples),
            "proportion": self.proportions.ravel(),
            "call": np.where(self.call.ravel(), "detected", "not detected"),
        }
        if self.presence is not None:
            columns["presence_probability"] = self.presence.ravel()
        if self.certainty is not None:
            sure = self.certainty
            unclear = ~self.call & ~sure.assessable
            columns["call"] = np.where(unclear.ravel(), "not assessable", columns["call"])
            shared = np.repeat(sure.out_of_atlas, n_tissues)
            values = (sure.low, sure.high, sure.limit_of_detection, shared)
            for name, value in zip(CERTAINTY_COLUMNS[1:], values, strict=True):
                columns[name] = value.ravel()
        return pd.DataFrame(columns)


@runtime_checkable
class Method(Protocol):
    """A deconvolution method, ready for use."""

    def predict(self, counts: RegionCounts) -> Deconvolution:
        """Deconvolve samples; regions are matched by name."""


class NetworkMethod:
    """A trained network with its atlas, and what validation taught about its certainty.

    Parameters
    ----------
    calibration
        Of `deconv.inference.calibrate`; without it presence probabilities are the network's
        own and nothing is said of certainty.
    min_overlap
        Share of the atlas' regions that the data must have.
    """

    def __init__(
        self,
        network: TwoStageNetwork,
        atlas: Atlas,
        *,
        calibration: Calibration | None = None,
        device: torch.device | str = "cpu",
        min_overlap: float = MIN_OVERLAP,
    ) -> None:
        self.network, self.atlas, self.calibration = network.to(device), atlas, calibration
        self.device, self.min_overlap = torch.device(device), min_overlap

    def predict(self, counts: RegionCounts) -> Deconvolution:
        """Deconvolve samples.

        Raises
        ------
        MismatchError
            If genome build or feature differ, or too few regions match.
        InputError
            If a sample has no coverage at all.
        """
        counts = observed_at(self.atlas, counts, self.min_overlap)
        if self.calibration is None:
            output = run_network(self.network, counts, self.device)
            return interpret(output, self.network, self.atlas)
        parts = []
        calibration = self.calibration
        threshold = calls_from(calibration)
        for counted, output, said in answers(self.network, counts, self.device, calibration):
            flagged = np.flatnonzero(misfit_score(said, calibration) > FLAGGED_FROM)
            output, said, unknown = explained(
                self.network, counted, output, said, flagged, threshold
            )
            sure = certainty(self.network, output, said, calibration, unknown)
            parts.append(
                Deconvolution(
                    self.atlas.tissues,
                    said.proportions.double().cpu().numpy(),
                    said.call.cpu().numpy(),
                    calibration.probability(said.logits.double().cpu().numpy()),
                    sure,
                )
            )
        return join(parts)


def join(parts: Sequence[Deconvolution]) -> Deconvolution:
    """Return results with certainty, of the same tissues, as one."""
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("proportions", "call", "presence")
    }
    sure = [part.certainty for part in parts]
    whole = Certainty(
        **{f.name: np.concatenate([getattr(s, f.name) for s in sure]) for f in fields(Certainty)}
    )
    return Deconvolution(parts[0].tissues, certainty=whole, **arrays)


def interpret(output: Output, network: TwoStageNetwork, atlas: Atlas) -> Deconvolution:
    """Turn a network's output into proportions and calls, at the network's threshold."""
    threshold = network.config.presence_threshold
    proportions = hard_proportions(output, threshold).double().cpu().numpy()
    if output.presence_logits is None:
        return Deconvolution(atlas.tissues, proportions, proportions >= PRESENT_FROM)
    return Deconvolution(
        atlas.tissues,
        proportions,
        called(output, threshold).cpu().numpy(),
        output.presence_logits.sigmoid().cpu().numpy(),
    )


def observed_at(atlas: Atlas, counts: RegionCounts, min_overlap: float) -> RegionCounts:
    """Bring counts to the atlas' regions and refuse samples without any coverage there."""
    counts = counts.at_regions(atlas.regions, where="the samples", min_overlap=min_overlap)
    empty = np.flatnonzero(~counts.coverage.any(axis=1))
    if empty.size:
        raise InputError(
            f"{empty.size} sample(s) have no coverage in any region",
            where=f"sample {counts.samples.index[empty[0]]}",
        )
    return counts
