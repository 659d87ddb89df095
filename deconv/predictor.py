"""One interface for all methods: counts in, proportions and presence calls out.

Shape letters: N = samples, T = tissues, R = regions.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deconv.atlas import Atlas
from deconv.counts import RegionCounts
from deconv.errors import InputError
from deconv.metrics import PRESENT_FROM
from deconv.model import Output, TwoStageNetwork, called, hard_proportions

BATCH_SIZE = 256
MIN_OVERLAP = 0.9
"""Share of a model's regions that data must have; the rest count as not observed."""


@dataclass(frozen=True)
class Deconvolution:
    """What a method says of samples; ``presence`` are probabilities, if it has them."""

    tissues: tuple[str, ...]
    proportions: Float[np.ndarray, "N T"]
    call: Bool[np.ndarray, "N T"]
    presence: Float[np.ndarray, "N T"] | None = None

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
        return pd.DataFrame(columns)


@runtime_checkable
class Method(Protocol):
    """A deconvolution method, ready for use."""

    def predict(self, counts: RegionCounts) -> Deconvolution:
        """Deconvolve samples; regions are matched by name."""


class NetworkMethod:
    """A trained network with its atlas and threshold.

    Parameters
    ----------
    min_overlap
        Share of the atlas' regions that the data must have.
    """

    def __init__(
        self,
        network: TwoStageNetwork,
        atlas: Atlas,
        *,
        device: torch.device | str = "cpu",
        min_overlap: float = MIN_OVERLAP,
    ) -> None:
        self.network, self.atlas = network.to(device), atlas
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
        return interpret(run_network(self.network, counts, self.device), self.network, self.atlas)


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


def run_network(network: TwoStageNetwork, counts: RegionCounts, device: torch.device) -> Output:
    """Return the network's output, in evaluation mode and without gradient."""
    was_training = network.training
    network.eval()
    outputs = []
    with torch.inference_mode():
        for first in range(0, len(counts), BATCH_SIZE):
            rows = slice(first, first + BATCH_SIZE)
            outputs.append(
                network(_on(device, counts.methylated[rows]), _on(device, counts.coverage[rows]))
            )
    network.train(was_training)
    logits = None
    if outputs[0].presence_logits is not None:
        logits = torch.cat([o.presence_logits for o in outputs])
    return Output(logits, torch.cat([o.scores for o in outputs]))


def _on(device: torch.device, array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32, order="C")).to(device)
