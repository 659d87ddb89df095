"""Metrics of predicted tissue proportions and presence calls, after inference.

Shape letters: N = samples, T = tissues. A tissue is present from `PRESENT_FROM`.
"""

import math

import numpy as np
from jaxtyping import Bool, Float

from deconv.errors import MismatchError

PRESENT_FROM = 0.01
HEADLINE = (
    "mae", "presence_balanced_accuracy", "presence_f1", "spurious_mass", "prediction_ratio",
)  # fmt: skip
"""The metrics that tables show first."""


def evaluate_predictions(
    predicted: np.ndarray,
    true: np.ndarray,
    *,
    call: Bool[np.ndarray, "N T"] | None = None,
    presence: Float[np.ndarray, "N T"] | None = None,
    present_from: float = PRESENT_FROM,
) -> dict[str, float]:
    """Return every metric of the project by its name.

    Parameters
    ----------
    predicted, true
        Fractions of each tissue, [N, T].
    call
        Which tissues the method says are present; by default those predicted at
        ``present_from`` or more.
    presence
        Presence probabilities, for the ranking metrics; by default ``predicted``.
    present_from
        Fraction from which a tissue is present.

    Returns
    -------
    ``mae mse rmse`` over N x T fractions; ``presence_accuracy``, ``_balanced_accuracy``,
    ``_precision``, ``_recall``, ``_f1``, ``_auroc``, ``_auprc`` over N x T calls;
    ``spurious_mass``, the mean over samples of the fraction given to absent tissues;
    ``spurious_rate``, the share of absent tissues predicted at ``present_from`` or more;
    ``prediction_ratio``, the mean of predicted / true over present tissues;
    ``exact_support``, the share of samples with exactly the present tissues called. One
    that is not defined, such as a recall with nothing present, is left out.

    Raises
    ------
    MismatchError
        If the shapes differ.
    ValueError
        If a prediction is not finite.
    """
    if predicted.shape != true.shape:
        raise MismatchError("shapes differ", got=predicted.shape, expected=true.shape)
    if not np.isfinite(predicted).all():
        raise ValueError(f"{np.sum(~np.isfinite(predicted))} predictions are not finite")
    present = true >= present_from
    call = predicted >= present_from if call is None else call
    presence = predicted if presence is None else presence
    error = predicted - true
    mse = float(np.mean(error**2))
    found, wrong = int((call & present).sum()), int((call & ~present).sum())
    n_present, n_absent = int(present.sum()), int((~present).sum())
    metrics: dict[str, float] = {
        "mae": float(np.mean(np.abs(error))),
        "mse": mse,
        "rmse": math.sqrt(mse),
        "presence_accuracy": float(np.mean(call == present)),
        "presence_f1": 2 * found / max(n_present + found + wrong, 1),
        "spurious_mass": float(np.where(present, 0, predicted).sum(axis=1).mean()),
        "exact_support": float((call == present).all(axis=1).mean()),
    }
    if found + wrong:
        metrics["presence_precision"] = found / (found + wrong)
    if n_absent:
        metrics["spurious_rate"] = float((predicted[~present] >= present_from).mean())
    if n_present:
        metrics["presence_recall"] = found / n_present
        metrics["prediction_ratio"] = float((predicted[present] / true[present]).mean())
    if n_present and n_absent:
        # Here, as it takes a second to import and commands that only name metrics need it not.
        from sklearn.metrics import average_precision_score, roc_auc_score

        specificity = 1 - wrong / n_absent
        metrics["presence_balanced_accuracy"] = (metrics["presence_recall"] + specificity) / 2
        metrics["presence_auroc"] = float(roc_auc_score(present.ravel(), presence.ravel()))
        metrics["presence_auprc"] = float(
            average_precision_score(present.ravel(), presence.ravel())
        )
    return metrics


def limit_of_detection(
    predicted: Float[np.ndarray, " N"],
    true: Float[np.ndarray, " N"],
    *,
    specificity: float = 0.95,
    sensitivity: float = 0.95,
) -> float:
    """Return the smallest fraction of a tissue reliably told from its absence.

    The limit of blank is the ``specificity`` quantile of the predictions where the
    tissue is absent. The limit of detection is the lowest spiked-in fraction from
    which on, at every level, at least ``sensitivity`` of the predictions exceed it.
    This is the non-parametric form of the clinical definition [1]_.

    Parameters
    ----------
    predicted
        Predicted fraction of one tissue in each sample, 0 to 1.
    true
        Spiked-in fraction; 0 marks a blank.
    specificity, sensitivity
        Required share of blanks below, and of spiked samples above, the blank limit.

    Returns
    -------
    Fraction, 0 to 1, or ``inf`` if even the highest level is missed, so that a
    gate such as ``limit <= 0.01`` fails rather than passes.

    Raises
    ------
    ValueError
        If there are no blanks or no spiked samples, or a prediction is not finite.

    References
    ----------
    .. [1] Armbruster & Pry (2008), Clin Biochem Rev 29 Suppl 1, S49-S52, PMC2556583
    """
    if not np.isfinite(predicted).all():
        raise ValueError(f"{np.sum(~np.isfinite(predicted))} predictions are not finite")
    blank = true == 0
    if blank.all() or not blank.any():
        raise ValueError(f"need blanks and spiked samples, got {blank.sum()} of {true.size} blank")

    limit_of_blank = np.quantile(predicted[blank], specificity, method="higher")
    limit = math.inf
    for level in np.unique(true[~blank])[::-1]:
        if np.mean(predicted[true == level] > limit_of_blank) < sensitivity:
            break
        limit = float(level)
    return limit
