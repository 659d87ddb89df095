"""Work in the background goes on, whatever a step of it raises."""

import pytest

from deconv.errors import DeconvError
from experiments.sender import Follower


@pytest.mark.parametrize("error", [DeconvError("away"), ZeroDivisionError("none thought of it")])
def test_step_that_fails_is_told_once_and_repeated(error):
    told, n_steps = [], 0

    def step():
        nonlocal n_steps
        n_steps += 1
        if n_steps < 3:
            raise error

    follower = Follower("work", step, lambda problem: told.append(problem and str(problem)))
    follower.wake()
    follower.settle(60)
    assert str(error) in str(follower.error)
    follower.close(patience=60, limit=60)
    assert n_steps == 3
    first, last = told
    assert str(error) in first
    assert last is None
    if not isinstance(error, DeconvError):
        assert first.startswith("test_sender.py:")
        assert "unexpected ZeroDivisionError" in first
