"""Which strategy is better, and whether the difference may be luck.

Sweeps of several strategies are compared at one budget, in pairs with the same seed. A win is claimed only if the
bootstrap interval of the mean paired difference excludes zero, and if a permutation test that flips the signs of the
differences agrees: a bootstrap of a few seeds alone claims wins too often. With more than two strategies each pair of
them is a comparison: Holm's correction (Scand. J. Statist. 6, 1979) of the test, and intervals that are wider by
Bonferroni's, hold the chance of any false claim among all pairs at 1 - CONFIDENCE.

Agarwal et al., Deep RL at the Edge of the Statistical Precipice, NeurIPS 2021, say why to report intervals and
probabilities of improvement. https://arxiv.org/abs/2108.13264
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from raysweep.study.trajectory import Array, Trajectory

CONFIDENCE = 0.98  # of a claim: one in fifty comparisons of equal strategies may claim a win
SHOWN = 0.95  # of the intervals of means and medians, which claim nothing
POWER = 0.8  # with which a difference as large as the measured one would be found by the seeds that are asked for
RESAMPLES = 9_999
MOST_SEEDS = 10_000

Runs = Mapping[int, Trajectory]  # seed -> sweep
Interval = tuple[float, float]


class Budget(NamedTuple):
    """Up to which report or second sweeps are compared: one of them is given."""

    iterations: int | None = None
    seconds: float | None = None

    def best(self, run: Trajectory) -> float:
        """The best value of a sweep within the budget."""
        return run.at_seconds(self.seconds) if self.seconds is not None else run.at_iterations(self.iterations or 0)

    def reports(self, run: Trajectory) -> int:
        """The number of a sweep's reports within the budget."""
        if self.seconds is not None:
            return int(np.searchsorted(run.seconds, self.seconds, side="right"))
        return min(self.iterations or 0, run.iterations)


@dataclass(frozen=True)
class Group:
    """The sweeps of one strategy.

    Attributes:
        label: of the strategy.
        seeds: how many sweeps.
        mean: of the best values; `interval` is of the mean.
        reached: the share of sweeps that reached the target.
        seconds: the median time to the target, infinite if fewer than half reached it; with its interval.
        iterations: likewise, in iterations of all trials.
    """

    label: str
    seeds: int
    mean: float
    interval: Interval
    reached: float
    seconds: float
    seconds_interval: Interval
    iterations: float


@dataclass(frozen=True)
class Pair:
    """Two strategies over their shared seeds; positive differences mean that the first one is better.

    Attributes:
        one: a label.
        other: a label.
        seeds: how many are shared.
        difference: the mean of the paired differences, in the metric's unit.
        interval: of that mean; those of all pairs together have CONFIDENCE.
        p_value: of the permutation test, corrected for the number of comparisons.
        improvement: the probability that the first one is better with a seed; ties count half. With its interval.
        more_seeds: how many more would show a difference as large as this; None if no number is known.
    """

    one: str
    other: str
    seeds: int
    difference: float
    interval: Interval
    p_value: float
    improvement: float
    improvement_interval: Interval
    more_seeds: int | None

    @property
    def winner(self) -> str | None:
        """The better one, if a win may be claimed."""
        if not self.p_value <= 1 - CONFIDENCE or self.interval[0] <= 0 <= self.interval[1]:
            return None
        return self.one if self.difference > 0 else self.other


@dataclass(frozen=True)
class Comparison:
    """All strategies, the best mean first, and all pairs of them.

    Attributes:
        metric: that was compared.
        target: the value whose reaching is timed.
        budget: up to which the sweeps were compared.
        groups: the strategies.
        pairs: of them; the first one of each has the better mean.
    """

    metric: str
    target: float
    budget: Budget
    groups: tuple[Group, ...]
    pairs: tuple[Pair, ...]

    @property
    def sentence(self) -> str:
        """What may be said."""
        return _sentence(self)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each strategy."""
        return pd.DataFrame([_row(group) for group in self.groups])

    @property
    def differences(self) -> pd.DataFrame:
        """One row for each pair."""
        return pd.DataFrame([_pair_row(pair) for pair in self.pairs])


def compare(
    runs: Mapping[str, Runs], metric: str, mode: str, budget: Budget | None = None, target: float | None = None
) -> Comparison:
    """Compares strategies.

    Args:
        runs: label -> the strategy's sweeps by their seeds.
        metric: that all of them optimised.
        mode: "max" or "min".
        budget: up to which; that of the shortest sweep, in iterations, if not given.
        target: whose reaching is timed; the median of the first strategy's best values if not given.
    """
    every = [run for group in runs.values() for run in group.values()]
    budget = budget or Budget(iterations=min(run.iterations for run in every))
    best = {label: {seed: budget.best(run) for seed, run in group.items()} for label, group in runs.items()}
    aim = target if target is not None else float(np.nanmedian(list(next(iter(best.values())).values())))
    groups = [_group(label, list(best[label].values()), list(runs[label].values()), aim, budget) for label in runs]
    sign = 1 if mode == "max" else -1
    groups.sort(key=lambda group: -sign * group.mean if math.isfinite(group.mean) else math.inf)
    labels = [group.label for group in groups]
    both = list(itertools.combinations(labels, 2))
    alpha = (1 - CONFIDENCE) / max(len(both), 1)
    pairs = [_pair(one, other, best[one], best[other], sign, alpha) for one, other in both]
    return Comparison(metric, aim, budget, tuple(groups), tuple(_corrected(pairs)))


def fewest_seeds(alpha: float) -> int:
    """With fewer pairs than this, no pattern of signs is so rare."""
    return math.ceil(1 - math.log2(alpha))


def interval(values: Sequence[float] | Array, statistic: Callable[..., Any], confidence: float) -> Interval:
    """The bootstrap interval of a statistic; that value twice if it cannot vary, NaN of a single value."""
    sample = np.asarray(values, float)
    if len(sample) < 2:
        return math.nan, math.nan
    if np.all(sample == sample[0]):
        value = float(statistic(sample))
        return value, value
    with np.errstate(invalid="ignore"):
        found = stats.bootstrap(
            (sample,), statistic, confidence_level=confidence, n_resamples=RESAMPLES, method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def _group(label: str, best: list[float], runs: list[Trajectory], target: float, budget: Budget) -> Group:
    times = np.array([run.reached(target, budget.reports(run)) for run in runs])
    return Group(
        label=label,
        seeds=len(best),
        mean=float(np.mean(best)),
        interval=interval(best, np.mean, SHOWN),
        reached=float(np.isfinite(times[:, 0]).mean()),
        seconds=_median(times[:, 0]),
        seconds_interval=interval(times[:, 0], _median, SHOWN),
        iterations=_median(times[:, 1]),
    )


def _median(values: Array, axis: int = -1) -> Any:
    """The lower median: of an even number, half of which never reached the target, the last one that did."""
    values = np.sort(values, axis=axis)
    found = np.take(values, (values.shape[axis] - 1) // 2, axis=axis)
    return float(found) if found.ndim == 0 else found


def _pair(
    one: str, other: str, of_one: Mapping[int, float], of_other: Mapping[int, float], sign: int, alpha: float
) -> Pair:
    shared = sorted(of_one.keys() & of_other.keys())
    differences = np.array([sign * (of_one[seed] - of_other[seed]) for seed in shared])
    differences = differences[np.isfinite(differences)]
    wins = (np.sign(differences) + 1) / 2
    return Pair(
        one=one,
        other=other,
        seeds=len(differences),
        difference=float(np.mean(differences)) if len(differences) else math.nan,
        interval=interval(differences, np.mean, 1 - alpha),
        p_value=_p_value(differences),
        improvement=float(np.mean(wins)) if len(wins) else math.nan,
        improvement_interval=interval(wins, np.mean, SHOWN),
        more_seeds=_more_seeds(differences, alpha),
    )


def _p_value(differences: Array) -> float:
    if len(differences) < 2 or not np.any(differences):
        return 1.0
    found = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, vectorized=True,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(found.pvalue)


def _corrected(pairs: Sequence[Pair]) -> list[Pair]:
    if len(pairs) < 2:
        return list(pairs)
    corrected = multipletests([pair.p_value for pair in pairs], alpha=1 - CONFIDENCE, method="holm")[1]
    return [replace(pair, p_value=float(p_value)) for pair, p_value in zip(pairs, corrected, strict=True)]


def _more_seeds(differences: Array, alpha: float) -> int | None:
    """The seeds that are missing for a paired t-test of that mean and spread to have POWER; None if none are enough."""
    count = len(differences)
    if count < 2 or not np.any(differences):
        return None
    fewest = fewest_seeds(alpha)
    spread = float(np.std(differences, ddof=1))
    if spread == 0:
        return max(0, fewest - count)
    effect, test = abs(float(np.mean(differences))) / spread, TTestPower()
    if test.power(effect, MOST_SEEDS, alpha) < POWER:
        return None
    few_are_enough = not test.power(effect, fewest, alpha) < POWER  # NaN for an effect beyond all doubt
    needed = fewest if few_are_enough else math.ceil(test.solve_power(effect, power=POWER, alpha=alpha))
    return max(needed, count + 1) - count


def _sentence(found: Comparison) -> str:
    if not found.pairs:
        return "There is one strategy: give another one to compare it with."
    leader = found.groups[0].label
    own = [pair for pair in found.pairs if pair.one == leader]
    beaten = [f"{pair.other} by {_difference(pair, found.metric)}" for pair in own if pair.winner == leader]
    doubts = [f"{pair.other} ({_difference(pair, found.metric)}; {_missing(pair)})" for pair in own if not pair.winner]
    if not doubts:
        return f"{leader} beats {_listed(beaten)}."
    start = f"{leader} beats {_listed(beaten)}; no win is shown over" if beaten else f"No win is shown of {leader} over"
    return f"{start} {_listed(doubts)}."


def _difference(pair: Pair, metric: str) -> str:
    low, high = pair.interval
    return f"{pair.difference:+.4g} {metric} [{low:.4g}, {high:.4g}] over {pair.seeds} shared seeds"


def _missing(pair: Pair) -> str:
    """How many more seeds it would take."""
    if pair.seeds < 2:
        return "one run each says nothing: run both with the same 10 seeds"
    if pair.difference == 0:
        return "there is no difference"
    if pair.more_seeds is None:
        return f"more than {MOST_SEEDS:,} seeds would have to show a difference so small"
    return f"{pair.more_seeds} more seeds would show a difference as large as this"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _row(group: Group) -> dict[str, Any]:
    row = {"strategy": group.label, "seeds": group.seeds, "mean": group.mean}
    row |= {"mean low": group.interval[0], "mean high": group.interval[1], "reached": group.reached}
    row |= {"seconds to target": group.seconds, "seconds low": group.seconds_interval[0]}
    return row | {"seconds high": group.seconds_interval[1], "iterations to target": group.iterations}


def _pair_row(pair: Pair) -> dict[str, Any]:
    row: dict[str, Any] = {"better": pair.one, "than": pair.other, "seeds": pair.seeds, "difference": pair.difference}
    row |= {"low": pair.interval[0], "high": pair.interval[1], "p": pair.p_value, "winner": pair.winner or ""}
    row |= {"P(better)": pair.improvement, "P low": pair.improvement_interval[0]}
    return row | {"P high": pair.improvement_interval[1], "more seeds": pair.more_seeds}
