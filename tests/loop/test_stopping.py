"""What ends a trial by its own result, or a sweep before its time: nan, limits, a storage that refuses, no hope."""

from __future__ import annotations

import math

import pytest

from raysweep.history.cost import Rate
from raysweep.history.sweep_state import TrialRecord
from raysweep.loop.failures import Kind
from raysweep.loop.stopping import FIRST_S, Spending, SweepLimits, TrialLimits
from raysweep.spec.prices import Prices


def result(iteration=1, seconds=1.0, **metrics):
    return {"training_iteration": iteration, "time_total_s": seconds, **metrics}


@pytest.mark.parametrize(
    ("metrics", "ends"),
    [
        (result(4, loss=1.0), False),
        (result(5, loss=1.0), True),
        (result(1, 9.0, loss=1.0), True),
        (result(1, loss=math.nan), True),
        (result(1, loss=-math.inf), True),
        (result(1, other=math.nan), False),
        (result(1, loss="diverged"), False),
        ({"training_iteration": 1}, False),
    ],
)
def test_a_trial_ends_when_it_is_complete_out_of_time_or_diverged(metrics, ends):
    assert TrialLimits(5, ("loss",), timeout=9.0)(metrics) is ends


def test_nan_ends_nothing_when_no_metric_is_checked():
    assert not TrialLimits(5)(result(1, loss=math.nan))


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limits(clock):
    return lambda budget=None, total=20: SweepLimits(budget, total, clock)


def test_earlier_runs_count_for_a_cost_budget(clock):
    rate = Rate(Prices("EUR", node_hour=3600.0, cpu_hour=3600.0), nodes=2, places=4, cpus=0.5, gpus=0.0)
    spending = Spending(rate, budget=100.0, spent=60.0)
    sweep = SweepLimits(None, 20, clock, spending)
    sweep.running = 4  # 2 a second for the nodes, and 4 times 0.5 for the trials
    clock.now += 5
    assert not sweep.reached
    assert spending.spent == pytest.approx(80.0)
    sweep.running = 0
    clock.now += 9
    assert not sweep.reached
    clock.now += 1
    assert sweep.reached
    assert (sweep.out_of_money, sweep.out_of_time) == (True, False)


def test_a_used_up_budget_ends_the_sweep(limits, clock):
    sweep = limits(budget=10.0)
    clock.now += 9
    assert not sweep.reached
    clock.now += 1
    assert sweep.reached
    assert sweep.out_of_time


def test_a_sweep_that_ran_out_of_time_stays_so(limits):
    sweep = limits(budget=10.0)
    sweep.out_of_time = True
    assert sweep.reached


def fail(sweep, *errors):
    for error in errors:
        failures = ["of another try", f"Traceback\n{error}"]
        sweep.failed(TrialRecord("00000", {}, failures=failures, kinds=[Kind.LOST, Kind.EXCEPTION]))


def test_a_sweep_whose_first_trials_all_fail_the_same_way_ends(limits):
    sweep = limits()
    fail(sweep, "ValueError: no such layer", "ValueError: no such layer")
    assert not sweep.reached
    fail(sweep, "ValueError: no such layer")
    assert sweep.reached
    assert sweep.hopeless


def test_a_sweep_of_two_trials_is_hopeless_after_two(limits):
    sweep = limits(total=2)
    fail(sweep, "ValueError: no", "ValueError: no")
    assert sweep.hopeless


def test_errors_without_a_text_are_the_same_if_their_kind_is_the_same(limits):
    same, other = limits(), limits()
    for kinds, sweep in (([Kind.LOST] * 3, same), ([Kind.LOST, Kind.LOST, Kind.NAN], other)):
        for kind in kinds:
            sweep.failed(TrialRecord("00000", {}, failures=[""], kinds=[kind]))
    assert (same.hopeless, other.hopeless) == (True, False)


def test_trials_that_fail_in_other_ways_or_late_or_beside_one_that_reports_end_nothing(limits, clock):
    other, late, reported = limits(), limits(), limits()
    fail(other, "ValueError: no", "ValueError: no", "KeyError: 'x'")
    reported.reported()
    fail(reported, *["ValueError: no"] * 3)
    clock.now += FIRST_S
    fail(late, *["ValueError: no"] * 3)
    assert not any(sweep.reached for sweep in (other, late, reported))


def test_a_storage_that_refuses_ends_the_sweep(limits):
    sweep = limits()
    assert not sweep.reached
    sweep.refused = "runs: the disk is full"
    assert sweep.reached
