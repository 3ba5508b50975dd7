"""What a value must be, in one sentence."""

from pathlib import Path
from typing import Any

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
