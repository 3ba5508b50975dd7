"""What a trial may report: numbers and texts that JSON, pandas and TensorBoard take as they are."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Container
from decimal import Decimal
from numbers import Real
from typing import Any

from raysweep.values import (
    AUTOMATIC_METRICS,
    NOT_METRICS,
    OWN_PREFIX,
    TIME_THIS_ITER_S,
    TIME_TOTAL_S,
    TRAINING_ITERATION,
    flat,
)

Metric = bool | int | float | str


class Unreported(RuntimeError):
    """The training function returned without any report, or without one of the metric that is optimised."""


def plain_metrics(metrics: Any, numeric: Container[str] = ()) -> dict[str, Metric]:
    """The metrics of one report, each as a value of Python's own: a scalar of numpy or torch becomes a number.

    Args:
        metrics: as the training function reports them.
        numeric: names of those that must be numbers.

    Raises:
        TypeError: they are no dictionary, a name is no text, or a value is neither a number nor a text; by name.
        ValueError: a name that `check_metric_name` refuses, a number that no float can hold, a text that is not
            Unicode; by name.
    """
    if not isinstance(metrics, dict):
        raise TypeError(f"report: the metrics are a {type(metrics).__name__}: give a dictionary, name -> value")
    for name in metrics:
        check_metric_name(name)
    plain = {str(name): _value(name, value) for name, value in metrics.items()}
    for name, value in plain.items():
        if isinstance(value, str) and name in numeric:
            raise TypeError(f"report: metric `{name}` is the text {value!r}, and it is optimised: give a number")
    return plain


def kept(metrics: Any, numeric: Container[str] = ()) -> tuple[dict[str, Metric], list[str]]:
    """The metrics of a report to Ray Tune, and the names of those that cannot be kept.

    Ray takes anything for a metric, and what is nested by its path: code that was written for it must not fail for a
    list or a figure among its numbers. What is filled in here anyway is left out: the iteration, times, and `done`.

    Args:
        metrics: as the training function reports them.
        numeric: names of those that must be numbers, and cannot be left out.

    Raises:
        TypeError, ValueError: as `plain_metrics`, for the whole, or one that must be a number.
    """
    if not isinstance(metrics, dict):
        return plain_metrics(metrics), []
    plain: dict[str, Metric] = {}
    left_out = []
    for name, value in flat(metrics).items():
        if name in NOT_METRICS:
            continue
        try:
            plain |= plain_metrics({name: value}, numeric)
        except (TypeError, ValueError):
            if name in numeric:
                raise
            left_out.append(name)
    return plain, left_out


def filled_in(
    plain: dict[str, Metric], iteration: int, took: float, spent: float, numeric: Container[str] = ()
) -> dict[str, Metric]:
    """The metrics of one report, with those that are filled in for each.

    Times are whole microseconds, and the total is the sum of what was reported: so it is the same number in a run that
    goes on and in one that goes on from a checkpoint, which knows no other.

    Args:
        plain: as `plain_metrics` returns them.
        iteration: the trial's, from 1.
        took: seconds of this iteration.
        spent: the total of the report before.
        numeric: what is optimised; the iteration is a metric only if it is among them.
    """
    times = {TIME_THIS_ITER_S: round(took, 6), TIME_TOTAL_S: round(spent + took, 6)}
    return {**plain, **times, **({TRAINING_ITERATION: iteration} if TRAINING_ITERATION in numeric else {})}


def check_metric_name(name: Any) -> None:
    """Refuses what cannot be the name of a metric that is reported.

    Raises:
        TypeError: it is no text.
        ValueError: it is empty, not Unicode, filled in for each report, or the kit's own.
    """
    if not isinstance(name, str):
        raise TypeError(f"report: {name!r} is a {type(name).__name__}: a metric's name must be a text")
    if not name:
        raise ValueError("report: a metric's name is empty: give it one")
    if name in AUTOMATIC_METRICS:
        raise ValueError(f"report: metric `{name}` is filled in for each report: leave it out, or give it another name")
    if name.startswith(OWN_PREFIX):
        raise ValueError(f"report: metric `{name}`: names that begin with {OWN_PREFIX} are the kit's own: give another")
    _unicode(name, name)


def _value(name: str, value: Any) -> Metric:
    with contextlib.suppress(ValueError, RuntimeError, TypeError):  # an array of several numbers has no item
        value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _unicode(name, str(value))
    if not isinstance(value, Real | Decimal):
        raise TypeError(f"report: metric `{name}` is a {type(value).__name__}: give a number or a text")
    try:
        number = float(value)
    except (OverflowError, ValueError) as error:
        raise ValueError(f"report: metric `{name}` cannot be stored as a float: {error}") from None
    if math.isinf(number) and number != value:
        raise ValueError(f"report: metric `{name}` cannot be stored as a float: {value!r} is too large")
    return int(value) if isinstance(value, int) else number


def _unicode(name: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"report: metric {name!a} holds half a character: give a text that is Unicode") from None
    return text
