"""Which ends of a trial count as its failure: its own errors, not what happens to its process or node."""

from __future__ import annotations

import time

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.tune.experiment import Trial

from raysweep.loss import MOST_LOSSES, RecoveringTrial

LOST = [ActorDiedError(), ActorUnavailableError("connection reset", None)]
RAISED = RayTaskError("step", "Traceback …", ValueError("upside down"))


class Unstored(Trial):
    """Ray writes a trial's errors into a folder of the session, and here is no session."""

    local_path = None


class Recovering(RecoveringTrial, Unstored): ...


def make(timeout=None):
    return Recovering.of(Unstored("loss", stub=True, max_failures=0), timeout)


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_a_lost_process_is_no_failure(error):
    trial = make()
    for _ in range(MOST_LOSSES):
        trial.handle_error(error)
        assert trial.should_recover()
    trial.handle_error(error)
    assert not trial.should_recover(), "a function that crashes its process again and again has failed"


def test_an_error_of_the_function_is_a_failure():
    trial = make()
    trial.handle_error(RAISED)
    assert not trial.should_recover()


@pytest.mark.parametrize(("timeout", "recovers"), [(5, False), (3600, True)])
def test_a_process_that_was_ended_because_its_time_was_up_is_a_failure(timeout, recovers):
    trial = make(timeout)
    trial.run_metadata.start_time = time.time() - 10
    trial.handle_error(LOST[0])
    assert trial.should_recover() is recovers
