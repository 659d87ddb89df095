"""All presence thresholds of one trained network, scored on its validation probabilities."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from deconv.atlas import Atlas
from deconv.counts import RegionCounts
from deconv.evaluate import score
from deconv.inference import run_network
from deconv.model import TwoStageNetwork, called, hard_proportions
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
    rows: list[dict[str, float]] = []
    before, metrics = None, {}
    for threshold in thresholds:
        if output.presence_logits is None:
            proportions = hard_proportions(output, 0.5).double().cpu().numpy()
            result = Deconvolution(atlas.tissues, proportions, proportions >= present_from)
            call = None
        else:
            call = called(output, float(threshold))
        if not rows or (call is not None and not torch.equal(call, before)):  # type: ignore[arg-type]
            if call is not None:
                result = Deconvolution(
                    atlas.tissues,
                    hard_proportions(output, float(threshold)).double().cpu().numpy(),
                    call.cpu().numpy(),
                    output.presence_logits.sigmoid().cpu().numpy(),  # type: ignore[union-attr]
                )
            metrics = score(result, validation, present_from=present_from)
        before = call
        rows.append({"threshold": float(threshold), **metrics})
    return pd.DataFrame(rows)
