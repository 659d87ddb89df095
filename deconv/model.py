"""The two-stage network: which tissues are present, and how much of each.

Shape letters: B = samples in the batch, R = regions, T = tissues, H = hidden units.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from deconv.atlas import Atlas
from deconv.configuration import Section
from deconv.errors import ConfigError
from deconv.estimator import AtlasEstimator, presence_log_odds
from deconv.precision import products_in

_SMALLEST = 1e-4  # of an estimated fraction, before its logarithm


class ModelConfig(Section):
    """Size and kind of the network.

    ``n_regions`` and ``num_classes`` are checked against the data if they are given.
    """

    n_regions: PositiveInt | None = None
    num_classes: PositiveInt | None = None
    hidden_size: PositiveInt = 512
    intermediate_size: PositiveInt = 2048
    dropout: float = Field(0.1, ge=0, lt=1)
    use_two_stage: bool = True
    atlas_start: bool = True
    presence_threshold: float = Field(0.5, gt=0, lt=1)
    pretrained_checkpoint: str | None = None


class Output(NamedTuple):
    """What the network says of a batch; ``presence_logits`` is None if single-stage."""

    presence_logits: Float[Tensor, "B T"] | None
    scores: Float[Tensor, "B T"]


class TwoStageNetwork(nn.Module):
    """The network, started at the atlas' estimator unless ``config.atlas_start`` is off.

    The first T rows of the projection then are those of generalised least squares, and
    the estimate goes straight to both heads; the blocks learn to correct it.

    Raises
    ------
    ConfigError
        If the stated size is not that of the atlas, or leaves the atlas rows no room.
    """

    def __init__(self, config: ModelConfig, atlas: Atlas, *, read_effect: float) -> None:
        super().__init__()
        n_tissues, n_regions = atlas.mean.shape
        _check_size("model.n_regions", config.n_regions, n_regions)
        _check_size("model.num_classes", config.num_classes, n_tissues)
        if config.atlas_start and config.hidden_size <= n_tissues:
            raise ConfigError(
                "the hidden layer has no room for the atlas rows", where="model.hidden_size",
                got=config.hidden_size, expected=f"more than the {n_tissues} tissues",
            )  # fmt: skip
        self.config = config
        self.estimator = AtlasEstimator(atlas, read_effect=read_effect)
        hidden, wide, n_free = config.hidden_size, config.intermediate_size, config.hidden_size
        if config.atlas_start:
            n_free -= n_tissues
            self.atlas_rows = nn.Parameter(self.estimator.initial_rows().clone())
            self.presence_scale = nn.Parameter(torch.ones(n_tissues))
        self.projection = nn.Linear(n_regions, n_free)
        self.blocks = nn.Sequential(
            *_block(hidden, hidden, config.dropout),
            *_block(hidden, hidden, config.dropout),
            *_block(hidden, wide, config.dropout),
        )
        self.proportion_head = nn.Linear(wide, n_tissues)
        heads = [self.proportion_head]
        if config.use_two_stage:
            self.presence_head = nn.Linear(wide, n_tissues)
            heads.append(self.presence_head)
        if config.atlas_start:
            for head in heads:  # nothing to correct yet
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)

    def forward(self, methylated: Float[Tensor, "B R"], coverage: Float[Tensor, "B R"]) -> Output:
        """Score each tissue's presence (logits) and share (unnormalised log fractions)."""
        exact = products_in(torch.float32, methylated.device)  # whatever the blocks run in
        with torch.no_grad(), exact:
            features, weight = self.estimator.features(methylated, coverage)
        hidden = self.projection(features)
        if not self.config.atlas_start:
            hidden = self.blocks(hidden)
            logits = self.presence_head(hidden).float() if self.config.use_two_stage else None
            return Output(logits, self.proportion_head(hidden).float())
        with exact:
            estimate = self.estimator.solve(features @ self.atlas_rows.T, weight)
        fractions = estimate.proportions
        hidden = self.blocks(torch.cat([fractions * len(fractions[0]), hidden], dim=1))
        scores = fractions.clamp(min=_SMALLEST).log() + self.proportion_head(hidden)
        if not self.config.use_two_stage:
            return Output(None, scores)
        odds = presence_log_odds(estimate, threshold=0.01)
        return Output(self.presence_scale * odds + self.presence_head(hidden), scores)


def soft_proportions(output: Output) -> Float[Tensor, "B T"]:
    """Return the proportions to train on: each tissue weighted by its presence gate.

    The gate enters as its logarithm before the softmax, so that a closed gate means
    weight 0 (not e^0 = 1) and the gradient reaches the presence head.
    """
    if output.presence_logits is None:
        return output.scores.softmax(dim=1)
    gate = nn.functional.logsigmoid(output.presence_logits)
    return (output.scores + gate).softmax(dim=1)


def called(output: Output, threshold: float | Float[Tensor, " T"]) -> Bool[Tensor, "B T"]:
    """Return which tissues are called: presence above the threshold, and always the top one.

    A sample has DNA, so it has a tissue: where no presence exceeds the threshold, the
    most probable tissue is called.
    """
    if output.presence_logits is None:
        raise ValueError("a single-stage network calls nothing")
    presence = output.presence_logits.sigmoid()
    top = nn.functional.one_hot(output.presence_logits.argmax(dim=1), presence.shape[1])
    return (presence > threshold) | top.bool()


def hard_proportions(
    output: Output, threshold: float | Float[Tensor, " T"]
) -> Float[Tensor, "B T"]:
    """Return the proportions to report: exactly 0 for a tissue not called, sum 1."""
    if output.presence_logits is None:
        return output.scores.softmax(dim=1)
    absent = ~called(output, threshold)
    return output.scores.masked_fill(absent, -torch.inf).softmax(dim=1)


def _block(n_in: int, n_out: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.GELU(), nn.Dropout(dropout)]


def _check_size(key: str, stated: int | None, actual: int) -> None:
    if stated not in (None, actual):
        raise ConfigError(
            "the data are of another size", where=key, got=stated, expected=f"{actual} or null"
        )
