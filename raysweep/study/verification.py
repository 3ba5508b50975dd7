"""How optimistic a sweep's own number was: its best configurations on fresh seeds, and on the test part.

The best of many noisy results is partly luck, and the validation part has chosen it. A fresh seed takes the luck of the
seed away, the test part also that of the choice: it is the metric `test_X` of a task that optimises `val_X`, which is
reported beside it and chooses nothing. It is read once for each fresh trial, at the iteration that is best by the
sweep's own metric.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raysweep.errors import BadInput
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import Result
from raysweep.study.comparison import SHOWN, Interval, interval
from raysweep.values import is_number, to_json, without_seed

OWN_PARTS = ("val_", "valid_", "validation_", "dev_", "eval_")  # what the name of a sweep's own metric may begin with


@dataclass(frozen=True)
class Verified:
    """A configuration, trained again.

    Attributes:
        config: without its seed.
        own: the sweep's own number: the best that a trial with it reported.
        values: the best of each fresh seed.
        tests: the test metric at the same iterations; empty if the task reports none.
        sign: 1 if more is better, else -1.
    """

    config: dict[str, Any]
    own: float
    values: tuple[float, ...]
    tests: tuple[float, ...]
    sign: int

    @property
    def mean(self) -> float:
        """Of the fresh seeds."""
        return float(np.mean(self.values))

    @property
    def optimism(self) -> float:
        """By how much the sweep's own number is better than the mean of fresh seeds."""
        return self.sign * (self.own - self.mean)

    @property
    def optimism_interval(self) -> Interval:
        """Its bootstrap interval."""
        return interval([self.sign * (self.own - value) for value in self.values], np.mean, SHOWN)


@dataclass(frozen=True)
class Verification:
    """The verified configurations in the sweep's own order.

    Attributes:
        metric: the sweep's own.
        test_metric: of the test part; None if the task reports none.
        verified: the configurations.
        missing: trials of the verification that have not ended, or failed.
    """

    metric: str
    test_metric: str | None
    verified: tuple[Verified, ...]
    missing: int = 0

    @property
    def table(self) -> pd.DataFrame:
        """One row for each configuration."""
        return pd.DataFrame([_row(rank, each, self) for rank, each in enumerate(self.verified, 1)])

    @property
    def sentences(self) -> list[str]:
        """What may be said."""
        return [*_verdict(self), *_warnings(self)]


def metric_of_test_part(metric: str, reported: set[str]) -> str | None:
    """The metric of the test part that belongs to a sweep's own: `test_accuracy` to `val_accuracy` or `accuracy`."""
    bare = next((metric.removeprefix(part) for part in OWN_PARTS if metric.startswith(part)), metric)
    return name if (name := f"test_{bare}") in reported and name != metric else None


def evaluate(sweep: SweepResults, verification: SweepResults, test_metric: str | None = None) -> Verification:
    """What the verification of a sweep has found so far.

    Args:
        sweep: that was verified.
        verification: the sweep of `driver.verify`.
        test_metric: of the test part, if its name is another one than `metric_of_test_part` expects.

    Raises:
        BadInput: no trial of the verification has a result, or none reports the test metric that was asked for.
    """
    metric, mode = sweep.objective.metrics[0], sweep.objective.modes[0]
    own: dict[str, float] = {}
    for trial in sweep.state.trials.values():
        if result := trial.best(metric, mode):
            key, value = _key(result.config), float(result.metrics[metric])
            own[key] = value if key not in own else (max if mode == "max" else min)(own[key], value)
    ended = [each for each in verification.state.trials.values() if each.ended and not each.failed]
    fresh = [best for trial in ended if (best := trial.best(metric, mode))]
    if not fresh:
        raise BadInput(f"`{verification.spec['name']}`: no trial has ended with a number for {metric}: resume it first")
    name = test_metric or metric_of_test_part(metric, {each for result in fresh for each in result.metrics})
    if test_metric is not None and not any(is_number(result.metrics.get(test_metric)) for result in fresh):
        raise BadInput(
            f"`--test-metric {test_metric}`: no trial reports it: report it beside {metric}, or leave it out"
        )
    by_config: dict[str, list[Result]] = {}
    for result in fresh:
        by_config.setdefault(_key(result.config), []).append(result)
    sign = 1 if mode == "max" else -1
    verified = [_verified(own[key], same, metric, name, sign) for key, same in by_config.items() if key in own]
    if not verified:
        raise BadInput(
            f"`{verification.spec['name']}`: has no configuration of `{sweep.spec['name']}`: give another --name"
        )
    verified.sort(key=lambda each: -sign * each.own)
    return Verification(metric, name, tuple(verified), len(verification.state.trials) - len(fresh))


def _verified(own: float, fresh: list[Result], metric: str, test: str | None, sign: int) -> Verified:
    values = tuple(float(result.metrics[metric]) for result in fresh)
    tests = tuple(float(r.metrics[test]) for r in fresh if is_number(r.metrics.get(test))) if test else ()
    return Verified(without_seed(fresh[0].config), own, values, tests, sign)


def _key(config: dict[str, Any]) -> str:
    return to_json(without_seed(config))


def _row(rank: int, each: Verified, found: Verification) -> dict[str, Any]:
    low, high = interval(each.values, np.mean, SHOWN)
    row = {"rank": rank, "configuration": to_json(each.config), "the sweep's own": each.own, "seeds": len(each.values)}
    row |= {"fresh seeds": each.mean, "low": low, "high": high, "optimism": each.optimism}
    if found.test_metric:
        test_low, test_high = interval(each.tests, np.mean, SHOWN) if each.tests else (math.nan, math.nan)
        mean = float(np.mean(each.tests)) if each.tests else math.nan
        row |= {found.test_metric: mean, "test low": test_low, "test high": test_high}
    return row


def _verdict(found: Verification) -> list[str]:
    best, metric = found.verified[0], found.metric
    low, high = best.optimism_interval
    kind = (
        "optimistic" if low > 0 else "pessimistic" if high < 0 else "neither optimistic nor pessimistic beyond chance"
    )
    seeds = f"{len(best.values)} fresh seeds of it have {best.mean:.6g} on average, a difference of {best.optimism:.4g}"
    own = f"the sweep's own best {metric}, {best.own:.6g},"
    lines = [f"{own} is {kind}: {seeds} [{low:.4g}, {high:.4g}]"]
    if len(best.values) == 1:
        lines = [f"{own} was {best.mean:.6g} with the one fresh seed, which says little: give --seeds 5 or more"]
    if best.tests:
        test_low, test_high = interval(best.tests, np.mean, SHOWN)
        lines.append(
            f"on the test part, which chose nothing, it has {found.test_metric} {np.mean(best.tests):.6g}"
            f" [{test_low:.4g}, {test_high:.4g}]: this is the number to report"
        )
    ahead = max(found.verified, key=lambda each: each.sign * each.mean)
    if ahead is not best:
        lines.append(
            f"of the verified ones, number {found.verified.index(ahead) + 1} has the best mean: {ahead.mean:.6g}"
        )
    return lines


def _warnings(found: Verification) -> list[str]:
    lines = []
    if found.test_metric is None:
        bare = next((found.metric.removeprefix(p) for p in OWN_PARTS if found.metric.startswith(p)), found.metric)
        lines.append(
            f"the task reports no metric of a test part, so only the fresh seeds count: report `test_{bare}` beside"
            f" `{found.metric}`, or name yours with --test-metric"
        )
    if all(len(each.values) > 1 and len(set(each.values)) == 1 for each in found.verified):
        lines.append(
            'all seeds gave the same values: the task does not use config["seed"], so this says nothing of luck'
        )
    if found.missing:
        lines.append(f"{found.missing} trials have failed or not ended: the figures are without them")
    return lines
