"""The importance of parameters: that of a known function, and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from raysweep.history.optuna_export import axes_of
from raysweep.history.results import SweepResults
from raysweep.loop.simulation import Step
from raysweep.reporting.importance import Importances, common_iteration, importances
from raysweep.spec import described
from tests.reporting.sweeps import simulated


def found_of(results: SweepResults, seed: int = 0) -> Importances | None:
    return importances(results, axes_of(results, described.domains(results.spec["space"])), seed)


def only_momentum(trial, config, iteration, state):
    return Step({"accuracy": config["momentum"] + iteration / 1000}, 1.0)


def test_the_parameter_that_decides_alone_is_the_most_important_one() -> None:
    found = found_of(simulated("random_search", 60, 3, outcome=only_momentum))
    assert found is not None
    first, *rest = found.parameters
    assert first.name == "momentum"
    assert first.low > max(each.high for each in rest)
    assert sum(each.share for each in found.parameters) == pytest.approx(1)
    assert all(0 <= each.low <= each.high <= 1 for each in found.parameters)
    assert (found.iteration, found.trials) == (3, 60)


def test_what_nothing_decides_has_wide_intervals() -> None:
    rng = np.random.default_rng(1)
    noise = simulated("random_search", 30, 1, outcome=lambda *_: Step({"accuracy": float(rng.random())}))
    found = found_of(noise)
    assert found is not None
    assert max(each.low for each in found.parameters) < min(each.high for each in found.parameters)


def test_fewer_trials_give_wider_intervals() -> None:
    few, many = (found_of(simulated("random_search", n, 1, outcome=only_momentum)) for n in (15, 120))
    assert few is not None
    assert many is not None
    widths = [next(p.high - p.low for p in each.parameters if p.name == "momentum") for each in (few, many)]
    assert widths[0] > widths[1]


def test_the_same_seed_gives_the_same_intervals() -> None:
    results = simulated("random_search", 20, 1)
    assert found_of(results, 3) == found_of(results, 3)


def test_nothing_is_said_of_a_handful_of_trials() -> None:
    assert found_of(simulated("random_search", 9, 1)) is None


def test_trials_are_compared_at_an_iteration_that_half_of_them_have_reached() -> None:
    results = simulated("asha", 20, 27, outcome=only_momentum)
    at = common_iteration(results)
    table = results.table
    assert at == max(n for n in range(1, 28) if (table.iterations >= n).sum() * 2 >= len(table))
    found = found_of(results)
    assert found is not None
    assert found.trials == (table.iterations >= at).sum() < 27


def test_of_several_metrics_the_front_counts() -> None:
    found = found_of(simulated("multi_objective", 20, 2, knobs={"second_metric": "size"}))
    assert found is not None
    assert found.iteration is None
