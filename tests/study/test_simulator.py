"""The strategies of jobs/ on recorded curves: what they report was recorded, when it was, within the budget."""

import dataclasses
import math

import numpy as np
import pytest

from raysweep.errors import BadInput
from raysweep.spec.sweep import strategies
from raysweep.study import simulator
from raysweep.study.curves import Curves
from raysweep.study.table import CurveTable
from tests.study.finished import ITERATIONS, recorded


def recorded_again(curves):
    table = curves.table
    return CurveTable(table.frame.copy(), table.about, table.space)


SINGLE = [name for name in strategies() if name not in ("multi_objective", "grid")]


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    return Curves(recorded(tmp_path_factory.mktemp("sweeps")))


@pytest.mark.parametrize("name", SINGLE)
def test_every_strategy_runs_on_a_table_and_reports_what_it_has(curves, name):
    at = simulator.conditions(curves, 2, None, trials=5)
    run = simulator.run(curves, simulator.contender(name), at, 0)
    values = curves.table.frame["metric/loss"]
    assert values.min() <= run.best[-1] <= run.best[0] <= values.max()
    assert (np.diff(run.seconds) >= 0).all()
    assert run.seconds[-2] <= at.seconds
    # All workers were busy, but for a population at its end, and where brackets wait for their last trial.
    whole = at.seconds * 2 / curves.table.frame["seconds"].mean()
    assert 0.4 * whole < run.iterations < 1.5 * whole


def test_random_search_takes_exactly_the_recorded_time(curves):
    at = simulator.conditions(curves, 1, 1e6)
    small = simulator.Conditions(1, at.seconds, 3, 3)
    run = simulator.run(curves, simulator.contender("random_search"), small, 4)
    frame = curves.table.frame
    assert run.iterations == 3 * ITERATIONS
    assert set(np.round(np.diff(run.seconds), 3)) <= set(np.round(frame["seconds"], 3))
    whole = set(np.round(frame.groupby(["configuration", "seed"])["seconds"].sum(), 2))
    assert set(np.round(np.diff(run.seconds[ITERATIONS - 1 :: ITERATIONS]), 2)) <= whole


def test_the_same_seed_gives_the_same_sweep_and_another_one_another(curves):
    at, asked = simulator.conditions(curves, 3, None, trials=4), simulator.contender("tpe_asha")
    first, again, other = (simulator.run(curves, asked, at, seed) for seed in (1, 1, 2))
    assert first.best.tolist() == again.best.tolist()
    assert first.seconds.tolist() == again.seconds.tolist()
    assert first.best.tolist() != other.best.tolist()


def test_more_workers_do_more_in_the_same_time(curves):
    asked = simulator.contender("asha")
    counts = [
        simulator.run(curves, asked, simulator.conditions(curves, workers, 60.0), 0).iterations for workers in (1, 2, 4)
    ]
    assert counts[1] == pytest.approx(2 * counts[0], rel=0.1)
    assert counts[2] == pytest.approx(4 * counts[0], rel=0.1)


@pytest.mark.parametrize("trials", [1, 7, 30.5])
@pytest.mark.parametrize("iterations", [3, 9, 10, 100])
def test_the_trials_that_are_paid_for_are_those_of_successive_halving(trials, iterations):
    """By hand: walks through the iterations, of which each is done by those that have passed the rungs before it."""
    share, spent = 1.0, 0.0
    for iteration in range(1, iterations + 1):
        spent += share
        if iteration in (1, 3, 9, 27, 81) and iteration < iterations:
            share /= 3
    expected = math.floor(trials * iterations / spent)
    assert abs(simulator.paid_for(trials, iterations) - max(expected, 1)) <= 1


@pytest.mark.parametrize("flags", ["", " --grace-period 2 --reduction-factor 2"])
def test_successive_halving_comes_to_its_end_within_the_budget(curves, flags):
    asked, at = simulator.contender(f"successive_halving{flags}"), simulator.conditions(curves, 2, None, 10)
    run, endless = (simulator.run(curves, asked, dataclasses.replace(at, seconds=s), 0) for s in (at.seconds, 1e9))
    assert endless.iterations == pytest.approx(10 * ITERATIONS, rel=0.2)  # what the budget pays for
    assert run.iterations >= 0.8 * endless.iterations  # the rest is time in which trials wait for each other


def test_a_strategy_is_given_its_own_flags():
    asked = simulator.contender("asha --grace-period 3 --reduction-factor 2")
    assert (asked.knobs.grace_period, asked.knobs.reduction_factor) == (3, 2.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ashaa", "did you mean `asha`"),
        ("asha --grace 3", "`grace` is not a knob of asha"),
        ("asha --grace-period x", "grace-period"),
        ("asha 3", "a strategy and its own flags"),
        ("", "is not a strategy"),
    ],
)
def test_what_is_no_strategy_or_no_flag_is_refused(text, said):
    with pytest.raises(BadInput, match=said):
        simulator.contender(text)


def test_a_late_iteration_of_one_seed_does_not_change_the_budget(curves):
    late = recorded_again(curves)
    late.frame.loc[0, "seconds"] = 1e6
    assert simulator.conditions(Curves(late), 2, None) == simulator.conditions(curves, 2, None)


def test_what_cannot_be_simulated_is_refused(curves):
    at = simulator.conditions(curves, 2, None)
    with pytest.raises(BadInput, match="several objectives"):
        simulator.run(curves, simulator.contender("multi_objective"), at, 0)
    with pytest.raises(BadInput, match="a complete trial takes"):
        simulator.conditions(curves, 1, 0.5)
    with pytest.raises(BadInput, match="resolution"):
        simulator.run(curves, simulator.contender("grid"), at, 0)


def test_a_grid_is_simulated_with_its_resolution(curves):
    at = simulator.conditions(curves, 2, None, trials=5)
    assert simulator.run(curves, simulator.contender("grid --resolution 3"), at, 0).iterations > ITERATIONS
