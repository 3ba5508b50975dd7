"""What a search space says of a case."""

import pytest
from ray import tune

from raysweep.advice.case import Case, of_space


@pytest.mark.parametrize(
    ("space", "numbers", "choices", "combinations", "conditional"),
    [
        ({"lr": tune.loguniform(1e-4, 1.0), "wide": tune.choice([1, 2, 3])}, 1, 1, None, False),
        ({"a": tune.choice([1, 2]), "b": {"c": tune.grid_search([1, 2, 3])}, "d": 5}, 0, 2, 6, False),
        ({"n": tune.randint(0, 4), "q": tune.quniform(0.0, 1.0, 0.5)}, 2, 0, 12, False),
        ({"kind": tune.choice([{"x": tune.uniform(0, 1)}, {"y": 1}])}, 0, 1, None, True),
        ({"x": tune.randn(0.0, 1.0)}, 1, 0, None, False),
    ],
)
def test_kinds_of_parameters_and_combinations(space, numbers, choices, combinations, conditional):
    assert of_space(space) == {
        "numbers": numbers,
        "choices": choices,
        "combinations": combinations,
        "conditional": conditional,
    }


def test_rounds_are_complete_trials_of_a_worker():
    assert Case(trials=30, workers=4, iterations=10).rounds == 7.5
