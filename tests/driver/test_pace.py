"""The model of seconds, on configurations whose seconds are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ray import tune

from raysweep.driver.pace import Pace

SPACE: dict[str, Any] = {
    "lr": tune.loguniform(1e-4, 1.0),
    "net": {"width": tune.choice([32, 64, 128, 256]), "kind": tune.choice(["small", "large"])},
    "batch": tune.randint(8, 65),
    "seed": 3,
}


def drawn(count: int, seed: int = 0) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    return [
        {
            "lr": float(10 ** random.uniform(-4, 0)),
            "net": {"width": int(random.choice([32, 64, 128, 256])), "kind": str(random.choice(["small", "large"]))},
            "batch": int(random.integers(8, 65)),
            "seed": 3,
        }
        for _ in range(count)
    ]


def seconds(config: dict[str, Any]) -> float:
    """In proportion to the width, and against the batch size; a large kind takes three times as long."""
    net = config["net"]
    return 0.1 * net["width"] / config["batch"] * (3.0 if net["kind"] == "large" else 1.0)


def pace(count: int) -> Pace:
    timed = drawn(count, seed=1)
    return Pace(SPACE, drawn(200), timed, [seconds(config) for config in timed])


def test_seconds_follow_the_parameters_that_change_them() -> None:
    found, others = pace(30), drawn(50, seed=2)
    told = np.array(found.seconds(others)) / [seconds(config) for config in others]
    assert np.quantile(np.abs(told - 1), 0.9) < 0.05
    matters = found.what_matters
    assert matters == pytest.approx({"net/width": 8.0, "batch": 8.0, "net/kind": 3.0}, rel=0.1)


def test_the_largest_configuration_is_at_the_bounds_that_make_it_so() -> None:
    start = drawn(1, seed=5)[0]
    largest, smallest = (pace(30).extreme(start, end) for end in (True, False))
    assert (largest["net"], largest["batch"]) == ({"width": 256, "kind": "large"}, 8)
    assert (smallest["net"], smallest["batch"]) == ({"width": 32, "kind": "small"}, 64)
    assert largest["lr"] == smallest["lr"] == start["lr"], "it changes nothing"


def test_with_few_measurements_the_order_is_right_and_the_doubt_is_known() -> None:
    found, others = pace(6), drawn(20, seed=2)
    told, high = found.seconds(others), found.seconds(others, 2.0)
    assert np.corrcoef(np.log(told), np.log([seconds(config) for config in others]))[0, 1] > 0.5
    assert all(up > middle for up, middle in zip(high, told, strict=True))


def test_where_all_take_the_same_nothing_matters() -> None:
    timed = drawn(3)
    found = Pace(SPACE, drawn(20), timed, [2.0, 2.0, 2.0])
    assert found.seconds(drawn(2), 3.0) == pytest.approx([2.0, 2.0])
    assert found.what_matters == {}
    assert found.extreme(timed[0], largest=True) == timed[0]


def test_a_space_with_conditions_keeps_what_was_drawn() -> None:
    space = {"model": tune.choice([{"depth": tune.randint(1, 9)}, "linear"]), "rate": tune.uniform(1.0, 2.0)}
    timed = [{"model": {"depth": 3}, "rate": 1.1}, {"model": "linear", "rate": 1.9}, {"model": "linear", "rate": 1.2}]
    found = Pace(space, timed, timed, [3.0, 1.0, 1.0])
    assert found.extreme(timed[0], largest=True)["model"] == {"depth": 3}
