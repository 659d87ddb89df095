"""All presence thresholds of one trained network, scored on its validation probabilities."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from deconv.atlas import Atlas
from deconv.counts import RegionCounts
from deconv.evaluate import score
from deconv.inference import run_network
from deconv.model import TwoStageNetwork
from deconv.output import Output, called, hard_proportions
from deconv.predictor import Deconvolution


def threshold_curve(
    network: TwoStageNetwork,
    atlas: Atlas,
    validation: RegionCounts,
    thresholds: Float[np.ndarray, " k"],
    *,
    device: torch.device,
    present_from: float,
) -> pd.DataFrame:
    """Return a row of metrics for each threshold; the network runs once.

    A single-stage network has no threshold: all rows are the same.
    """
    output = run_network(network, validation, device)
    logits = output.presence_logits

    def measure(threshold: float, call: Tensor | None) -> dict[str, float]:
        proportions = hard_proportions(output, threshold).double().cpu().numpy()
        if call is None or logits is None:
            result = Deconvolution(atlas.tissues, proportions, proportions >= present_from)
        else:
            presence = logits.sigmoid().cpu().numpy()
            result = Deconvolution(atlas.tissues, proportions, call.cpu().numpy(), presence)
        return score(result, validation, present_from=present_from)

    rows: list[dict[str, float]] = []
    before, metrics = None, {}
    for threshold in thresholds.tolist():
        call = _calls(output, threshold)
        if not rows or not (call is None or before is None or torch.equal(call, before)):
            metrics = measure(threshold, call)
        before = call
        rows.append({"threshold": threshold, **metrics})
    return pd.DataFrame(rows)


def _calls(output: Output, threshold: float) -> Tensor | None:
    return None if output.presence_logits is None else called(output, threshold)
