"""One of Ray's schedulers: its draws are reproducible, and it gets finite values only."""

import math
import random

import numpy as np
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from raysweep.loop.scheduler import BAD, Scheduler
from raysweep.ray_private import one_bracket

METRIC, TRIALS = "accuracy", 18


def scheduler_of(ray, seed=0, mode="max"):
    ray.set_search_properties(METRIC, mode)
    return Scheduler(ray, seed, mode)


def new_trial(number):
    return Trial("trial", stub=True, trial_id=f"{number:05d}", config={"lr": 1.0})


def result_of(value, iteration=1):
    return {METRIC: value, "training_iteration": iteration}


class Dice(FIFOScheduler):
    """Draws in each call."""

    def __init__(self):
        super().__init__()
        self.drawn, self.received = [], []

    def _draw(self):
        self.drawn.append((random.random(), float(np.random.random())))

    def on_trial_add(self, controller, trial):
        self._draw()

    def on_trial_result(self, controller, trial, result):
        self._draw()
        self.received.append(result)
        return TrialScheduler.CONTINUE

    def on_trial_complete(self, controller, trial, result):
        self.received.append(result)


def rolled(seed, before=0):
    """What is drawn for a new trial and two results, after another trial's results."""
    dice = scheduler_of(Dice(), seed)
    for iteration in range(1, before + 1):
        dice.result(None, new_trial(0), result_of(0.5, iteration))
    dice.ray.drawn.clear()
    trial = new_trial(1)
    dice.add(None, trial)
    for iteration in (1, 2):
        dice.result(None, trial, result_of(0.5, iteration))
    return dice.ray.drawn


def test_a_draw_depends_on_seed_trial_and_iteration_and_on_nothing_else():
    assert len(set(rolled(seed=1))) == 3
    assert rolled(seed=1) == rolled(seed=1, before=5)
    assert not set(rolled(seed=1)) & set(rolled(seed=2))


@pytest.mark.parametrize(
    "ray",
    [
        Dice(),
        FIFOScheduler(),
        ASHAScheduler(max_t=9),
        AsyncHyperBandScheduler(max_t=9, brackets=3),
        HyperBandScheduler(max_t=9),
        one_bracket(9, 1, 9, 3),
        MedianStoppingRule(time_attr="training_iteration"),
    ],
    ids=lambda ray: type(ray).__name__,
)
def test_other_users_of_the_random_generators_are_not_affected(ray):
    def draws():
        return random.random(), float(np.random.random())

    def between(call):
        random.seed(1)
        np.random.seed(1)
        first = draws()
        call()
        return first, draws()

    scheduler, trial = scheduler_of(ray), new_trial(0)

    def decide():
        scheduler.add(None, trial)
        scheduler.result(None, trial, result_of(0.5))

    assert between(decide) == between(lambda: None)


def test_the_same_seed_deals_the_same_brackets_and_another_one_others():
    def dealt(seed):
        scheduler = scheduler_of(AsyncHyperBandScheduler(max_t=9, reduction_factor=3, brackets=2), seed)
        for number in range(TRIALS):
            scheduler.add(None, new_trial(number))
        return [scheduler.ray._brackets.index(bracket) for bracket in scheduler.ray._trial_info.values()]

    assert dealt(1) == dealt(1) != dealt(2)


@pytest.mark.parametrize(("mode", "worst"), [("max", 0.2), ("min", 0.7)])
def test_a_value_that_is_not_finite_counts_as_the_worst_so_far(mode, worst):
    dice, trial = scheduler_of(Dice(), mode=mode), new_trial(0)
    for value in (0.5, 0.2, 0.7, math.nan, math.inf, -math.inf):
        dice.result(None, trial, result_of(value))
    dice.complete(None, trial, result_of(math.nan))
    assert [result[METRIC] for result in dice.ray.received] == [0.5, 0.2, 0.7, worst, worst, worst, worst]


@pytest.mark.parametrize(("mode", "bad"), [("max", -BAD), ("min", BAD)])
def test_a_first_value_that_is_not_finite_counts_as_extremely_bad(mode, bad):
    dice = scheduler_of(Dice(), mode=mode)
    dice.result(None, new_trial(0), result_of(math.nan))
    assert dice.ray.received[0][METRIC] == bad


def test_a_schedulers_changes_to_a_result_are_not_visible_outside():
    class Writes(Dice):
        def on_trial_result(self, controller, trial, result):
            result["hyperband_info"] = {}
            return super().on_trial_result(controller, trial, result)

    result = result_of(0.5)
    scheduler_of(Writes()).result(None, new_trial(0), result)
    assert result == result_of(0.5)


def test_only_a_result_with_the_metric_can_be_compared():
    scheduler = scheduler_of(ASHAScheduler(max_t=9))
    assert scheduler.has_metric(result_of(0.5))
    assert scheduler.has_metric(result_of(math.nan))
    assert not scheduler.has_metric({"training_iteration": 1})
    assert Scheduler(FIFOScheduler(), 0).has_metric({"training_iteration": 1}), "which compares nothing"
