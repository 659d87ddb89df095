"""Runs compared sample by sample with the first, where both were tested on the same mixtures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from deconv.benchmarks.bootstrap import BOOTSTRAPPED, Difference, holm, paired_differences
from experiments.sides import STATS, Side, stats_arrays


def pair_sides(
    sides: Sequence[Side],
) -> tuple[dict[str, dict[str, Difference]], dict[str, str]]:
    """Return each run's metrics less those of the first, by letter, and why some have none.

    The p-values are adjusted for the number of runs (Holm).
    """
    first, *others = sides
    pairs: dict[str, dict[str, Difference]] = {}
    refused: dict[str, str] = {}
    for side in others:
        reason = _reason_not_to_pair(first, side)
        if reason is not None:
            refused[side.letter] = reason
            continue
        assert first.stats is not None
        assert side.stats is not None
        predicted, true, call = stats_arrays(first.stats)
        theirs, _, their_call = stats_arrays(side.stats, like=first.stats)
        pairs[side.letter] = paired_differences(
            (theirs, their_call), (predicted, call), true, seed=0
        )
    return _adjusted(pairs), refused


def _reason_not_to_pair(first: Side, side: Side) -> str | None:
    for one in (first, side):
        if one.stats is None:
            return f"{one.letter} has no {STATS} (its run did not end)"
        if one.test_set is None:
            return f"{one.letter} does not say which mixtures it was tested on"
    assert first.test_set is not None
    assert side.test_set is not None
    if side.test_set != first.test_set:
        was, other = (" ".join(s.test_set or ()) for s in (first, side))
        return (
            f"tested on other mixtures than {first.letter} ({other}, not {was}): "
            "the same data, seed and designs are needed"
        )
    key = ["sample", "tissue"]
    truth = [
        s.set_index(key)["true_proportion"].sort_index()
        for s in (first.stats, side.stats)
        if s is not None
    ]
    if not truth[0].equals(truth[1]):
        return (
            f"{STATS} has other samples, tissues or true proportions than that of {first.letter}"
        )
    return None


def _adjusted(
    pairs: Mapping[str, Mapping[str, Difference]],
) -> dict[str, dict[str, Difference]]:
    """Adjust the p-values of a metric for the number of runs compared by it."""
    adjusted: dict[str, dict[str, Difference]] = {letter: {} for letter in pairs}
    for metric in BOOTSTRAPPED:
        letters = [letter for letter, found in pairs.items() if metric in found]
        values = holm([pairs[letter][metric].p_value for letter in letters])
        for letter, p_value in zip(letters, values, strict=True):
            adjusted[letter][metric] = replace(pairs[letter][metric], p_value=p_value)
    return adjusted
