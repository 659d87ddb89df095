"""Mixture designs: which tissues are in a sample, and how much of each.

Shape letters: n = mixtures, T = tissues.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from deconv.errors import ConfigError

SPIKE_LEVELS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Fractions of a titration; 0 are its blanks."""

Fractions = Float[Tensor, "n T"]
Background = Float[Tensor, " T"]  # 1 for background tissues, else 0


def draw_fractions(
    designs: Mapping[str, float],
    n: int,
    tissues: Sequence[str],
    background: Sequence[str],
    generator: Generator,
) -> Fractions:
    """Draw ``n`` mixtures, each of a design drawn by weight; rows sum to 1.

    Raises
    ------
    ConfigError
        If a design or background tissue is unknown, the weights are not usable, or a
        design needs more tissues than there are.
    """
    check_tissues(designs, tissues, background)
    is_background = torch.tensor([float(t in background) for t in tissues])
    weight = torch.tensor(list(designs.values()))
    chosen = torch.multinomial(weight, n, replacement=True, generator=generator)
    drawn = torch.stack([DESIGNS[name](n, is_background, generator) for name in designs])
    return drawn[chosen, torch.arange(n)]


def check_weights(designs: Mapping[str, float]) -> None:
    """Refuse designs that are unknown or cannot be weighted."""
    unknown = sorted(set(designs) - set(DESIGNS))
    if unknown:
        raise ConfigError(f"unknown design {unknown[0]}", expected=", ".join(DESIGNS))
    if not designs or min(designs.values()) < 0 or sum(designs.values()) <= 0:
        raise ConfigError("the weights of the designs are not usable", got=dict(designs))


def check_tissues(
    designs: Mapping[str, float], tissues: Sequence[str], background: Sequence[str]
) -> None:
    """Refuse designs that cannot be drawn from these tissues."""
    check_weights(designs)
    strange = sorted(set(background) - set(tissues))
    if strange:
        raise ConfigError(f"unknown background tissue {strange[0]}", expected=", ".join(tissues))
    needs_background = {"cfdna", "titration"} & set(designs)
    if needs_background and not 0 < len(background) < len(tissues):
        raise ConfigError(
            f"design {min(needs_background)} needs background tissues, and others",
            got=", ".join(background) or "none",
        )


def pure(n: int, background: Background, generator: Generator) -> Fractions:
    """One tissue."""
    return _pick(torch.ones(n), background, generator)


def two_tissues(n: int, background: Background, generator: Generator) -> Fractions:
    """Two tissues, from 50/50 to 80/20."""
    minor = 0.2 + 0.3 * torch.rand(n, 1, generator=generator)
    order = _random_order(n, len(background), generator)
    return torch.zeros(n, len(background)).scatter_(
        1, order[:, :2], torch.cat([minor, 1 - minor], dim=1)
    )


def several(n: int, background: Background, generator: Generator) -> Fractions:
    """Three to five tissues, any fractions equally likely (flat Dirichlet)."""
    return _pick(_counts(n, 3, 5, generator), background, generator)


def cfdna(n: int, background: Background, generator: Generator) -> Fractions:
    """Like cell-free DNA: 60-90 % background, two to six other tissues, skewed."""
    main = 0.6 + 0.3 * torch.rand(n, 1, generator=generator)
    weight = torch.zeros(n, len(background)).exponential_(generator=generator)
    others = _keep(_counts(n, 2, 6, generator), background == 0, generator)
    # Squared exponentials: a few large tissues, many small ones.
    return main * _normalise(weight * background) + (1 - main) * _normalise(weight**2 * others)


def titration(n: int, background: Background, generator: Generator) -> Fractions:
    """One tissue at one of `SPIKE_LEVELS` in background."""
    level = torch.tensor(SPIKE_LEVELS)[
        torch.randint(len(SPIKE_LEVELS), (n, 1), generator=generator)
    ]
    weight = torch.zeros(n, len(background)).exponential_(generator=generator)
    spiked = _keep(torch.ones(n), background == 0, generator)
    return (1 - level) * _normalise(weight * background) + level * spiked


Design = Callable[[int, Background, Generator], Fractions]
DESIGNS: dict[str, Design] = {
    "pure": pure,
    "two_tissues": two_tissues,
    "several": several,
    "cfdna": cfdna,
    "titration": titration,
}


def _pick(n_present: Tensor, background: Background, generator: Generator) -> Fractions:
    kept = _keep(n_present, torch.ones_like(background) > 0, generator)
    return _normalise(torch.zeros_like(kept).exponential_(generator=generator) * kept)


def _counts(n: int, low: int, high: int, generator: Generator) -> Tensor:
    return torch.randint(low, high + 1, (n,), generator=generator)


def _random_order(n: int, n_tissues: int, generator: Generator) -> Int[Tensor, "n T"]:
    return torch.rand(n, n_tissues, generator=generator).argsort(dim=1)


def _keep(n_present: Tensor, eligible: Tensor, generator: Generator) -> Fractions:
    """Mark ``n_present`` random eligible tissues in each row, all if there are fewer."""
    key = torch.rand(len(n_present), len(eligible), generator=generator) + 2.0 * ~eligible
    rank = key.argsort(dim=1).argsort(dim=1)
    return ((rank < n_present[:, None]) & eligible).float()


def _normalise(weight: Fractions) -> Fractions:
    return weight / weight.sum(dim=1, keepdim=True)
