"""Forecasts, held against schedules that are drawn up by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ray import tune

from raysweep.driver.forecast import Estimate, Forecast, Seconds, forecast
from raysweep.driver.pace import Pace
from raysweep.history.cost import Rate
from raysweep.spec.flags import Flags
from raysweep.spec.prices import Prices
from raysweep.spec.sweep import Sweep
from tests.loop.sweeps import SPACE, config_of, sweep_of

CONFIGS = [{"x": 0.5, "width": 1}, {"x": -0.5, "width": 3}]
STEADY = Seconds(Pace(SPACE, CONFIGS, CONFIGS, [1.0, 1.0]), setup=0.5, fresh=2.0, between=0.25)
RATE = Rate(Prices("EUR", node_hour=3600.0, cpu_hour=7200.0), nodes=3, places=2, cpus=1.0, gpus=0.0)


def told(
    name: str, samples: int = 4, iterations: int = 3, places: int = 2, rate: Rate | None = None, **flags: Any
) -> Forecast:
    def config(sweep: Sweep) -> tune.TuneConfig:
        return config_of(sweep)

    sweep = sweep_of(name, samples, iterations)
    return forecast(sweep, Flags(**flags), config, STEADY, places, rate)


def exactly(value: float) -> Estimate:
    return Estimate(*[pytest.approx(value)] * 3)


def test_a_schedule_is_that_of_its_places() -> None:
    found = told("random_search", rate=RATE)
    # Each place: a process's first trial, and another one: (2 + 3) + (0.25 + 0.5 + 3).
    assert found.wall == exactly(8.75)
    assert found.work == exactly(17.5)
    assert (found.iterations, found.trials) == (exactly(12), exactly(4))
    assert found.cost == exactly(8.75 * 3 + 17.5 * 2)
    assert found.simulations == 20


def test_without_prices_there_is_no_cost() -> None:
    assert told("random_search").cost is None


def test_what_early_stopping_saves_counts() -> None:
    found = told("asha", samples=16, iterations=9)
    whole = 8 * 9 + 2 + 7 * 0.75  # seconds of each of the two places, if nothing is stopped
    assert 16 < found.iterations.low < found.iterations.middle < found.iterations.high < 16 * 9
    assert found.wall.low <= found.wall.middle < 0.75 * whole
    assert found.trials == exactly(16)


@pytest.mark.parametrize("name", ["hyperband", "pbt", "median_stopping", "tpe", "multi_objective"])
def test_any_strategy_can_be_told(name: str) -> None:
    found = told(name, samples=6, iterations=9)
    assert 0 < found.wall.low <= found.wall.high <= 6 * (9 + 2.25)
    assert found.trials == exactly(6)


def test_a_budget_ends_it() -> None:
    found = told("random_search", samples=20, time_budget=10.0)
    assert found.trials == exactly(4)
    assert found.wall.high <= 10.0 + 1.0  # the loop looks once a second
    cheap = told("random_search", samples=20, rate=RATE, cost_budget=65.0)
    assert cheap.cost is not None
    assert cheap.cost.middle <= 65.0 + 7.0  # so much for a second
    assert cheap.trials.middle < 20


def test_what_is_not_known_of_the_seconds_widens_the_interval() -> None:
    timed = [{"x": 0.1 * n, "width": n % 3 + 1} for n in range(6)]
    sure, unsure = (
        forecast(
            sweep_of("random_search", 4, 3), Flags(), config_of,
            Seconds(Pace(SPACE, timed, timed, seconds), 0.0, 0.0, 0.0), 2, None,
        )
        for seconds in ([1.0, 1.001, 1.0, 0.999, 1.0, 1.001], [1.0, 2.0, 0.5, 3.0, 0.7, 1.5])
    )  # fmt: skip
    assert sure.wall.high / sure.wall.low < 1.02
    assert unsure.wall.high / unsure.wall.low > 1.3


def test_a_random_search_is_told_with_the_configurations_that_it_will_draw() -> None:
    timed = [{"x": 0.1 * n, "width": n % 3 + 1} for n in range(12)]
    pace = Pace(SPACE, timed, timed, [4.0 ** config["width"] for config in timed])
    walls = [
        forecast(
            replace(sweep_of("random_search", 4, 3), seed=seed), Flags(), config_of,
            Seconds(pace, 0.0, 0.0, 0.0), 1, None,
        ).wall
        for seed in (1, 2)
    ]  # fmt: skip
    assert all(wall.high / wall.low < 1.05 for wall in walls)
    assert max(wall.middle for wall in walls) / min(wall.middle for wall in walls) > 1.2
