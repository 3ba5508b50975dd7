"""What a value must be, in one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysweep.spec.rules import check, rule


@pytest.mark.parametrize(
    ("allowed", "value", "told"),
    [
        (rule(int), "x", "must be a whole number"),
        (rule(int), [1], "must be a whole number"),
        (rule(float), "x", "must be a number"),
        (rule(float), "nan", "must be a finite number"),
        (rule(str), 3, "must be text"),
        (rule(int, ge=1), 0, "must be at least 1"),
        (rule(float, gt=0.5), 0.5, "must be more than 0.5"),
        (rule(float, ge=0, le=1), 1.5, "must be at most 1"),
        (rule(float, lt=1), 1, "must be less than 1"),
        (rule(str, ("a", "b", "c")), "d", "must be 'a', 'b' or 'c'"),
        (rule(int), True, "must be a whole number"),
        (rule(int | None, ge=0), False, "must be a whole number"),
        (rule(float), True, "must be a number"),
        (rule(float), np.True_, "must be a number"),
        (rule(int), np.array([1, 2]), "must be a whole number"),
        (rule(int), "9" * 5000, "must be a smaller number"),
        (rule(bool), 2, "must be True or False"),
        (rule(bool), None, "must be True or False"),
        (rule(str | None, min_length=1), "", "must not be empty"),
        (rule(dict[str, Any]), [1], "must be a dictionary"),
        (rule(tuple[str, ...]), "lr", "must be a tuple"),
        (rule(list[Any]), {}, "must be a list"),
        (rule(Path | None), 3, "Input is not a valid path for <class 'pathlib.Path'>"),  # pydantic's own words
    ],
)
def test_a_wrong_value_is_one_sentence(allowed: Any, value: object, told: str) -> None:
    assert check("--x", value, allowed) == (None, f"`--x {value}`: {told}")


@pytest.mark.parametrize(
    ("allowed", "text", "value"),
    [
        (rule(int | None, ge=1), "3", 3),
        (rule(float), "1e3", 1000.0),
        (rule(str, ("a", "b")), "a", "a"),
        (rule(Path | None), "a/b", Path("a/b")),
        (rule(bool), True, True),
    ],
)
def test_a_right_one_is_parsed(allowed: Any, text: object, value: object) -> None:
    assert check("--x", text, allowed) == (value, None)
