"""Names and small functions for metrics and configurations, which every room uses; nothing heavy is imported here."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

# What a sweep adds to each report. They are Ray's own names (`ray.tune.result`): its schedulers look for them.
TRAINING_ITERATION = "training_iteration"
TIME_TOTAL_S = "time_total_s"
TIME_THIS_ITER_S = "time_this_iter_s"
AUTOMATIC_METRICS = (TRAINING_ITERATION, TIME_TOTAL_S, TIME_THIS_ITER_S)
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


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a/b": 1}`, the way Ray and Optuna name nested parameters."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def takes_data(train: Callable[..., None]) -> bool:
    """Whether a training function wants the task's data as its second argument."""
    return len(inspect.signature(train).parameters) >= 2
