"""The best so far of a sweep, by seconds and by iterations."""

import math

import numpy as np
import pytest

from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import SweepState
from raysweep.study.trajectory import of_reports, of_sweep
from tests.study.finished import sweep

SECONDS, VALUES = [1.0, 2.0, 2.0, 5.0], [0.3, math.nan, 0.5, 0.4]


def test_the_best_so_far_by_report_and_by_second():
    run = of_reports(7, "max", SECONDS, VALUES)
    assert run.best.tolist() == [0.3, 0.3, 0.5, 0.5]
    assert run.iterations == 4
    assert [run.at_iterations(count) for count in (1, 2, 3, 99)] == [0.3, 0.3, 0.5, 0.5]
    assert [run.at_seconds(second) for second in (1.0, 1.9, 2.0, 9.0)] == [0.3, 0.3, 0.5, 0.5]
    assert math.isnan(run.at_seconds(0.5))
    assert math.isnan(run.at_iterations(0))


def test_the_time_to_a_target():
    run = of_reports(0, "max", SECONDS, VALUES)
    assert run.reached(0.5) == (2.0, 3.0)
    assert run.reached(0.5, up_to=2) == (math.inf, math.inf)
    assert run.reached(0.6) == (math.inf, math.inf)
    assert of_reports(0, "min", SECONDS, VALUES).reached(0.3) == (1.0, 1.0)


@pytest.mark.parametrize("strange", ["text", None, math.inf, [1]])
def test_what_is_no_number_is_no_result(strange):
    assert of_reports(0, "min", [1.0, 2.0], [strange, 0.5]).best.tolist()[1] == 0.5


@pytest.mark.parametrize("strategy", ["random_search", "asha", "pbt"])
def test_that_of_a_finished_sweep_has_each_of_its_reports(tmp_path, strategy):
    found = sweep(tmp_path, "one", strategy, seed=3)
    run = of_sweep(found)
    assert run.seed == 3
    values = [
        event["metrics"]["loss"] for event in (found.state.events or []) if event["type"] == "result"
    ]  # all that was ever reported, in order
    assert run.best.tolist() == np.minimum.accumulate(values).tolist()
    assert run.best[-1] == found.best["loss"]


def report(iteration, seq, time):
    return {
        "type": "result", "trial": "0", "iteration": iteration, "node": "n", "seq": seq, "time": time,
        "metrics": {"loss": 1.0 / iteration, "time_this_iter_s": 3.0}, "checkpoint": None,
    }  # fmt: skip


BEGIN = [
    {"type": "start", "seq": 1, "time": 90.0},
    {"type": "suggest", "trial": "0", "config": {}, "seq": 2, "time": 100.0},
    report(1, 3, 113.0),
]


def seconds(events):
    spec = {"metrics": ["loss"], "modes": ["min"], "seed": 0}
    return of_sweep(SweepResults("memory://", spec, SweepState(events))).seconds.tolist()


def test_seconds_begin_with_the_first_trial():
    assert seconds([*BEGIN, report(2, 4, 116.0)]) == [3.0, 6.0]


def test_the_time_between_two_runs_of_a_sweep_does_not_count():
    pause = [{"type": "end", "seq": 4, "time": 114.0}, {"type": "start", "seq": 5, "time": 1014.0}]
    assert seconds([*BEGIN, *pause, report(2, 6, 1018.0), report(3, 7, 1021.0)]) == [3.0, 8.0, 11.0]
