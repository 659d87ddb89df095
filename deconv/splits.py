"""Train, validation and test sets by donor, so that no donor is on two sides."""

from dataclasses import dataclass

import numpy as np

from deconv.counts import Samples
from deconv.errors import InputError, LeakageError


@dataclass(frozen=True)
class Split:
    """Disjoint sets of pure samples; a set that nothing was held out for is None."""

    train: Samples
    validation: Samples | None
    test: Samples | None


def split_by_donor(counts: Samples, *, n_validation: int, n_test: int, seed: int) -> Split:
    """Hold out donors of every tissue; all samples of a donor go to the same set.

    Parameters
    ----------
    counts
        Pure samples with tissue and donor.
    n_validation, n_test
        Donors of each tissue to hold out.
    seed
        Which donors are drawn.

    Raises
    ------
    InputError
        If a tissue has too few donors to leave one for training.
    LeakageError
        If the same data stand under the names of donors in different sets.
    """
    counts.require("tissue", "donor")
    rng = np.random.default_rng(seed)
    pairs = counts.samples[["tissue", "donor"]].drop_duplicates()
    side: dict[str, str] = {}
    for tissue in sorted(pairs["tissue"].unique()):
        donors = sorted(pairs.loc[pairs["tissue"] == tissue, "donor"])
        for name, n_wanted in (("test", n_test), ("validation", n_validation)):
            free = [d for d in donors if d not in side]
            n_missing = n_wanted - sum(side.get(d) == name for d in donors)
            drawn = rng.permutation(len(free))[: max(n_missing, 0)]
            side.update({free[i]: name for i in drawn})
        n_train = sum(d not in side for d in donors)
        n_held = [sum(side.get(d) == s for d in donors) for s in ("validation", "test")]
        if n_train < 1 or n_held[0] < n_validation or n_held[1] < n_test:
            raise InputError(
                "too few donors to split", where=f"tissue {tissue}", got=len(donors),
                expected=f"at least {n_validation + n_test + 1}: {n_validation} for validation, "
                f"{n_test} for test and one to train",
            )  # fmt: skip
    of_sample = counts.samples["donor"].map(lambda donor: side.get(donor, "train")).to_numpy()
    return split_at(counts, of_sample)


def split_at(counts: Samples, side: np.ndarray) -> Split:
    """Split by a given label per sample: ``train``, ``validation`` or ``test``.

    Raises
    ------
    LeakageError
        If a donor, or identical data, are in two sets.
    """
    check_no_leakage(counts, side)
    train, validation, test = (
        np.flatnonzero(side == name) for name in ("train", "validation", "test")
    )
    return Split(
        counts.take(train),
        counts.take(validation) if validation.size else None,
        counts.take(test) if test.size else None,
    )


def check_no_leakage(counts: Samples, side: np.ndarray) -> None:
    """Refuse a donor, or the same counts under two names, on different sides."""
    seen: dict[object, tuple[str, str]] = {}
    donors = counts.samples["donor"].items()
    for row, ((name, donor), arrays) in enumerate(zip(donors, counts.rows(), strict=True)):
        content = hash(tuple(array.tobytes() for array in arrays))
        for key, what in ((("donor", donor), f"donor {donor}"), (content, "identical counts")):
            other_name, other_side = seen.setdefault(key, (str(name), side[row]))
            if other_side != side[row]:
                raise LeakageError(
                    f"{what} in two sets", where=f"sample {name}",
                    got=f"{side[row]}, and {other_side} as sample {other_name}",
                    expected="each donor in one of train, validation and test",
                )  # fmt: skip
