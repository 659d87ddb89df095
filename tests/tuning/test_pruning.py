"""What the pruner costs and saves, by learning curves that are given."""

import numpy as np
import pytest
from optuna.trial import TrialState

from tuning.claims import Claims
from tuning.config import PrunerConfig
from tuning.space import suggest

N_TRIALS, N_EPOCHS = 40, 12


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_usual_pruner_saves_half_of_the_epochs_and_keeps_the_best(begin, noise):
    """Trials differ by 1, and a validation by `noise`, in standard deviations."""
    study = begin(
        pruner=PrunerConfig().model_dump(), sampler={"kind": "random"},
        budget={"trials": N_TRIALS}, set=[f"training.num_epochs={N_EPOCHS}"],
    )  # fmt: skip
    generator = np.random.default_rng(0)
    good = generator.standard_normal(N_TRIALS)
    claims, n_epochs = Claims(study), 0
    while (claim := claims.next()) != "done":
        trial = claims.trial(claim)
        suggest(trial, study.config.space)
        end, values = TrialState.COMPLETE, [float(good[claim.number])]
        for epoch in range(1, N_EPOCHS + 1):
            n_epochs += 1
            trial.report(good[claim.number] + noise * generator.standard_normal(), epoch)
            if epoch < N_EPOCHS and trial.should_prune():
                end, values = TrialState.PRUNED, None
                break
        claims.finish(claim, end, values, {})
    assert n_epochs <= N_TRIALS * N_EPOCHS / 2
    done = [t for t in study.trials() if t.state == TrialState.COMPLETE]
    best = min(done, key=lambda t: t.values[0])
    assert best.number in np.argsort(good)[:2]
    assert best.number == good.argmin() or noise
