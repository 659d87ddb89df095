"""The training loss and its terms.

Shape letters: B = samples in the batch, T = tissues.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from deconv.configuration import Section
from deconv.mixtures import Batch
from deconv.output import Output, soft_proportions
from deconv.precision import products_in


class LossConfig(Section):
    """Weights of the terms; a tissue counts as present from ``presence_threshold``."""

    mse_weight: float = Field(1.0, ge=0)
    presence_weight: float = Field(1.0, ge=0)
    sparsity_weight: float = Field(0.01, ge=0)
    presence_threshold: float = Field(0.01, gt=0, lt=1)


def loss_terms(
    output: Output, proportions: Float[Tensor, "B T"], config: LossConfig
) -> dict[str, Float[Tensor, ""]]:
    """Return the terms before weighting, and their weighted sum as ``loss``.

    Parameters
    ----------
    output
        Of the network, on a batch.
    proportions
        True fractions; rows sum to 1.

    Returns
    -------
    ``mse_loss``: mean squared error of the proportions. ``presence_loss``: binary cross-entropy
    of the presence logits. ``sparsity_loss``: mean presence gate, which is the L1 norm of the
    gates (the expected number of tissues called) per tissue; unlike the L1 norm of
    proportions, which always sum to 1, it can shrink. A single-stage network has only the
    first.
    """
    terms = {"mse_loss": mse_loss(soft_proportions(output), proportions)}
    total = config.mse_weight * terms["mse_loss"]
    if output.presence_logits is not None:
        present = (proportions >= config.presence_threshold).to(output.scores.dtype)
        terms["presence_loss"] = binary_cross_entropy_with_logits(output.presence_logits, present)
        terms["sparsity_loss"] = output.presence_logits.sigmoid().mean()
        total = total + config.presence_weight * terms["presence_loss"]
        total = total + config.sparsity_weight * terms["sparsity_loss"]
    return {"loss": total, **terms}


def running_metrics(
    output: Output, proportions: Float[Tensor, "B T"], *, present_from: float, called_from: float
) -> dict[str, Float[Tensor, ""]]:
    """Return metrics cheap enough for every training step, as tensors on the device.

    They are those of `deconv.metrics` on this batch, with the soft proportions.
    """
    with torch.no_grad():
        predicted = soft_proportions(output)
        present = proportions >= present_from
        if output.presence_logits is None:
            call = predicted >= present_from
        else:
            call = output.presence_logits.sigmoid() > called_from
        return {
            "mae": (predicted - proportions).abs().mean(),
            "presence_accuracy": (call == present).float().mean(),
            "spurious_mass": predicted.masked_fill(present, 0).sum(dim=1).mean(),
        }


def training_values(
    model: nn.Module,
    batch: Batch,
    *,
    config: LossConfig,
    called_from: float,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Float[Tensor, ""]]:
    """Return what `deconv.train.train` descends and records for a batch.

    ``dtype`` is the number format of the network's matrix products.
    """
    with products_in(dtype, batch.methylated.device):
        output = model(batch.methylated, batch.coverage, batch.estimator)
    return {
        **loss_terms(output, batch.proportions, config),
        **running_metrics(
            output,
            batch.proportions,
            present_from=config.presence_threshold,
            called_from=called_from,
        ),
    }
