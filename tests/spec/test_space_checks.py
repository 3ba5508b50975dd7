"""What is wrong with a space is known before anything starts, by the parameter's name."""

import threading
from pathlib import Path

import pytest
from ray import tune

from raysweep.spec.space_checks import check_space, draw_problems

LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({"x": tune.uniform(0, 1), "c": tune.choice([len, (1, 2)]), "epochs": 3}, []),
        ({"c": tune.choice([])}, ["`c` has nothing to choose from: give it some values"]),
        ({"x": tune.uniform(1, 0)}, ["`x` has the bounds 1 and 0: the lower one must be less than the upper one"]),
        ({"n": tune.randint(3, 3)}, ["`n` has the bounds 3 and 3: the lower one must be less than the upper one"]),
        (
            {"a/b": tune.uniform(0, 1), "a": {"b": tune.uniform(0, 1)}},
            ["`a/b` is the name of two parameters: a nested"],
        ),
        (
            {1: tune.uniform(0, 1), "1": 3},
            ["`1` is the name of two parameters: a nested one, or one with another type"],
        ),
        (
            {"c": tune.choice([LOCK, 1])},
            ["`c`: its choice '<unlocked _thread.lock object>' cannot be sent to a worker"],
        ),
        (
            {"c": tune.choice(["[1] #1", [1], (1,)])},
            ["`c`: two of its choices are both written as '[1] #1': give one of them another name"],
        ),
    ],
)
def test_a_space_is_checked(space, told):
    problems = check_space(space)
    assert len(problems) == len(told)
    assert all(problem.startswith(begin) for problem, begin in zip(problems, told, strict=True))


@pytest.mark.parametrize(
    ("space", "drawn", "told"),
    [
        ({"f": tune.sample_from(len)}, {"f": Path("a")}, []),
        (
            {"f": tune.sample_from(len)},
            {"f": LOCK},
            ["`f` cannot be kept in the journal, or sent to a worker (TypeError"],
        ),
        (
            {"lock": LOCK},
            {"lock": LOCK},
            ["`lock` cannot be kept in the journal, or sent to a worker (TypeError: cannot"],
        ),
        ({"s": 3}, {"s": [tune.uniform(0, 1)]}, ["`s` contains a domain that is not drawn: draw numbers, texts"]),
    ],
)
def test_a_drawn_configuration_goes_to_json_and_back_and_to_a_worker(space, drawn, told):
    problems = draw_problems(space, drawn)
    assert len(problems) == len(told)
    assert all(problem.startswith(begin) for problem, begin in zip(problems, told, strict=True))
