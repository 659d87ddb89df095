"""Whether what would be shipped is what was judged: the model is the run's own, and unchanged.

A run states the hash of its model as a parameter, which MLflow lets nobody change, unlike its
tags, metrics and files; and the model states its run, its metrics and its donors.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from mlflow.entities import Run

from experiments.gates import Verdict
from experiments.names import BUNDLE_HASH

_RULE = "the run's own model"
_AGREE = 1e-3  # relative: a run that is resumed at its end may be evaluated on another machine


def check_own(
    run: Run, provenance: Mapping[str, Any], sha256: str, *, has_answered: bool
) -> Verdict:
    """Require that the model that a run's tags lead to is the one that the run made.

    Parameters
    ----------
    provenance
        What the model says of where it is from.
    sha256
        Of the model's manifest.
    has_answered
        The model itself answered a benchmark: then the run need not have stated the hash, as
        those of earlier versions did not, but the model must name the run.
    """
    stated = run.data.params.get(BUNDLE_HASH)
    if stated not in (None, sha256):
        reason = f"the run made {stated[:12]}, its tag names {sha256[:12]}"
        return Verdict(_RULE, False, reason)
    of_run = provenance.get("run_id")
    # A run that was trained while the server was away had no id yet, but a name.
    is_named = provenance.get("run") == run.info.run_name if of_run is None else True
    if of_run not in (None, run.info.run_id) or (stated is None and not is_named):
        return Verdict(_RULE, False, f"the model is of run {of_run or provenance.get('run')}")
    if stated is None and not has_answered:
        reason = "the run did not record which model it made: give --benchmark FILE"
        return Verdict(_RULE, False, reason)
    other = _differing(run.data.metrics, provenance.get("metrics", {}))
    if other:
        return Verdict(_RULE, False, f"the model states another value of {', '.join(other[:3])}")
    return Verdict(_RULE, True, f"bundle {sha256[:12]}")


def _differing(logged: Mapping[str, float], stated: Mapping[str, float]) -> list[str]:
    """Return the metrics that were logged anew after the model was made."""
    return [
        name
        for name in sorted(logged.keys() & stated.keys())
        if not np.isclose(logged[name], stated[name], rtol=_AGREE, equal_nan=True)
    ]
