"""The two-stage network: which tissues are present, and how much of each.

Shape letters: B = samples in the batch, R = regions, T = tissues, H = hidden units.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from deconv.atlas import Atlas
from deconv.attenuation import posterior_without_loss
from deconv.configuration import Section
from deconv.errors import ConfigError
from deconv.estimator import AtlasEstimator
from deconv.output import Output
from deconv.posterior import Posterior, compiled, spike_and_slab
from deconv.precision import products_in


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


class TwoStageNetwork(nn.Module):
    """The network, started at the atlas' estimator unless ``config.atlas_start`` is off.

    The first T rows of the projection then are those of generalised least squares, plus what
    training corrects. Presence
    starts at the log odds of `deconv.posterior`; proportions at least squares of the tissues
    present. The blocks, which see the posterior too, learn to correct both.

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
        self._solve_in_training: Callable[[Tensor, Tensor], Posterior] = spike_and_slab
        self.estimator = AtlasEstimator(atlas, read_effect=read_effect)
        hidden, wide, n_free = config.hidden_size, config.intermediate_size, config.hidden_size
        if config.atlas_start:
            n_free -= n_tissues
            self.atlas_correction = nn.Parameter(torch.zeros(n_tissues, n_regions))
            self.presence_scale = nn.Parameter(torch.ones(n_tissues))
        self.projection = nn.Linear(n_regions, n_free)
        n_known = 2 * n_tissues if config.atlas_start else 0
        self.blocks = nn.Sequential(
            *_block(hidden + n_known, hidden, config.dropout),
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

    def compile_posterior(self) -> None:
        """Have the posterior compiled in training, where it is asked for at one size."""
        self._solve_in_training = compiled(self.projection.weight.device.type)

    def forward(
        self,
        methylated: Float[Tensor, "B R"],
        coverage: Float[Tensor, "B R"],
        estimator: AtlasEstimator | None = None,
        typical_loss: float | None = None,
    ) -> Output:
        """Score each tissue's presence (logits) and share.

        ``estimator`` takes the place of the network's own in training. With a typical loss,
        contrast that samples lack beyond it is allowed for, see `deconv.attenuation`.
        """
        estimator = estimator or self.estimator
        exact = products_in(torch.float32, methylated.device)  # whatever the blocks run in
        with torch.no_grad(), exact:
            features, weight = estimator.features(methylated, coverage)
        hidden = self.projection(features)
        if not self.config.atlas_start:
            hidden = self.blocks(hidden)
            logits = self.presence_head(hidden).float() if self.config.use_two_stage else None
            return Output(logits, self.proportion_head(hidden).float())
        with exact:
            rows = estimator.initial_rows() + self.atlas_correction
            gram, moment = estimator.normal_equations(features @ rows.T, weight)
            with torch.no_grad():
                solve = self._solve_in_training if self.training else spike_and_slab
                known = solve(gram.detach(), moment.detach())
                if typical_loss is not None:
                    known = posterior_without_loss(gram, moment, known, typical_loss)
        # In units in which a typical value is about 1.
        seen = (known.mean * len(gram[0]), known.log_odds / 10, known.std_error.log10() + 3)
        hidden = self.blocks(torch.cat([*seen, hidden], dim=1))
        scores = self.proportion_head(hidden).float()
        logits = None
        if self.config.use_two_stage:
            logits = self.presence_scale * known.log_odds + self.presence_head(hidden)
        return Output(
            logits, scores, gram, moment,
            known.estimate, known.std_error, known.mean, known.deviation,
        )  # fmt: skip


def _block(n_in: int, n_out: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.GELU(), nn.Dropout(dropout)]


def _check_size(key: str, stated: int | None, actual: int) -> None:
    if stated not in (None, actual):
        raise ConfigError(
            "the data are of another size", where=key, got=stated, expected=f"{actual} or null"
        )
