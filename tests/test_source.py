"""How a trial ended, from what Ray says of it."""

import pytest

from raysweep.source import outcome

LAST = 9


@pytest.mark.parametrize(
    ("iteration", "done", "error", "stop_decided", "ended"),
    [
        (LAST, True, False, True, "finished"),  # all iterations done: Tune's own stop
        (LAST + 1, True, False, True, "finished"),
        (LAST, False, False, False, "finished"),
        (4, True, False, True, "stopped"),  # a scheduler, or a time limit
        (4, True, False, False, "finished"),  # the function returned early
        (4, False, False, False, "stopped"),  # ended from outside, at a time budget
        (None, None, False, False, "stopped"),  # while it waited
        (0, None, False, False, "stopped"),  # before its first result
        (None, None, True, False, "failed"),
        (4, True, True, True, "failed"),
        (LAST, True, True, False, "failed"),
    ],
)
def test_outcome(iteration, done, error, stop_decided, ended):
    result = None if iteration is None else {"training_iteration": iteration, "done": done}
    assert outcome(result, error, stop_decided, LAST) == ended


def test_an_empty_result_is_a_trial_that_reported_nothing():
    assert outcome({}, False, False, LAST) == "stopped"
