"""Names and small functions for metrics and configurations, which every room uses; nothing heavy is imported here."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

# What a sweep adds to each report. They are Ray's own names (`ray.tune.result`): its schedulers look for them.
TRAINING_ITERATION = "training_iteration"
TIME_TOTAL_S = "time_total_s"
TIME_THIS_ITER_S = "time_this_iter_s"
AUTOMATIC_METRICS = (TRAINING_ITERATION, TIME_TOTAL_S, TIME_THIS_ITER_S)
# What code for Ray Tune may say in a report of the trial itself: it is the last one; the trial is to be saved after it.
DONE, SHOULD_CHECKPOINT = "done", "should_checkpoint"
NOT_METRICS = (*AUTOMATIC_METRICS, DONE, SHOULD_CHECKPOINT)
SEED = "seed"  # parameter by which a trial is given its seed, where a strategy or a user gives it one
TAG = "!"  # first character of the key of a tagged value
MOST_NESTED = 100  # levels of dictionaries and lists
OWN_PREFIX = "raysweep:"  # of what the kit adds to metrics and memories of its own; no metric's name begins so


def finite(value: Any) -> bool:
    """Whether a metric has not diverged; what is no number, such as a text, has not."""
    return not isinstance(value, float) or math.isfinite(value)


def is_number(value: Any) -> bool:
    """Whether a metric's value can be compared: a finite number, which a float can hold."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False


def without_seed(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration apart from the seed that its trial was given."""
    return {key: value for key, value in config.items() if key != SEED}


def is_tagged(value: dict[str, Any]) -> bool:
    """Whether a dictionary stands for one value that JSON does not have, see `spec.configuration`."""
    return len(value) == 1 and str(next(iter(value))).startswith(TAG)


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a/b": 1}`, the way Ray and Optuna name nested parameters."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, dict) and not is_tagged(value)
        found |= flat(value, f"{prefix}{key}/") if nested else {f"{prefix}{key}": value}
    return found


def plain(value: Any) -> Any:
    """The JSON representation of another type: a number for a numpy scalar, else text."""
    with contextlib.suppress(Exception):  # `item` fails for arrays, and may mean something else in a user's class
        item = value.item()
        if isinstance(item, bool | int | float | str):  # numpy's longdouble returns itself
            return item
    return _text(value)


def _text(value: Any) -> str:
    try:
        if isinstance(value, set | frozenset):  # their order differs between processes
            items = f"{{{', '.join(sorted(map(repr, value)))}}}"
            return items if type(value) is set else f"{type(value).__name__}({items})"
        return repr(value)
    except Exception:  # a user's class, or nested too deep
        return f"<{type(value).__name__}>"


def to_json(value: Any) -> str:
    """One line of JSON for any value; keys and values of types that JSON does not have become text."""
    try:
        return json.dumps(value, separators=(",", ":"), default=plain)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(_plain_tree(value, ()), separators=(",", ":"), default=plain)


def _plain_tree(value: Any, parents: tuple[int, ...]) -> Any:
    """A copy with string keys and without cycles; `parents` are the ids of the containers around the value."""
    if id(value) in parents or len(parents) >= MOST_NESTED:
        return _text(value)
    path = (*parents, id(value))
    if isinstance(value, dict):
        return {k if isinstance(k, str) else _text(k): _plain_tree(v, path) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_tree(each, path) for each in value]
    return value
