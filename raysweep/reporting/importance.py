"""How much each parameter matters, and how sure that is: Optuna's PED-ANOVA on bootstrap resamples of the trials."""

from __future__ import annotations

import math
import random
import warnings
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from raysweep.history.optuna_export import Axis, directions
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import Result, TrialRecord
from raysweep.optuna_quiet import silent
from raysweep.values import is_number

FEWEST = 15  # trials, below which nothing is said
MOST = 1000  # trials, of which more are only sampled
RESAMPLES, FEWEST_RESAMPLES, DRAWS = 100, 30, 30_000  # fewer of large sweeps, so that the page is made in seconds
INTERVAL = (5.0, 95.0)  # percentiles
BEST_SHARE, BEST_TRIALS = 0.1, 5  # the evaluator asks what makes a trial one of the best tenth, or of the best five


@dataclass(frozen=True)
class Importance:
    """The share of one parameter in what decides whether a trial is among the best: 0 to 1, all of them add up to 1.

    Attributes:
        name: the parameter's.
        share: of all trials.
        low: the lower end of the 90 % bootstrap interval.
        high: its upper end.
    """

    name: str
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Importances:
    """The parameters, the most important one first, and the trials that they come from.

    Attributes:
        parameters: with their intervals.
        iteration: at which all trials are compared; None if each has its final values.
        trials: how many got so far.
    """

    parameters: list[Importance]
    iteration: int | None
    trials: int


def importances(results: SweepResults, axes: list[Axis], seed: int = 0) -> Importances | None:
    """The importance of the parameters by PED-ANOVA, https://arxiv.org/abs/2304.10255; None if too little is known.

    Trials that were stopped early would be compared with those that trained for longer. So the values of one iteration
    count: the last one that half of the trials have reached.
    """
    axes = [axis for axis in axes if axis.distribution is not None and not axis.distribution.single()]
    iteration = common_iteration(results) if results.objective.single else None
    records = results.state.trials.values()
    trials = [frozen for record in records if (frozen := _frozen(record, results, axes, iteration))]
    if len(axes) < 2 or len(trials) < FEWEST:
        return None
    if len(trials) > MOST:
        trials = random.Random(seed).sample(trials, MOST)
    with silent(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna says of each small resample that it is small; so do the intervals
        found = _bootstrapped(trials, results, axes, np.random.default_rng(seed))
    ordered = sorted(found, key=lambda each: -each.share)
    return Importances(ordered, iteration, len(trials)) if ordered else None


def common_iteration(results: SweepResults) -> int | None:
    """The last iteration at which at least half of the trials have reported the metric; None if none has."""
    metric = results.objective.metrics[0]
    reached: Counter[int] = Counter()
    reporting = 0
    for trial in results.state.trials.values():
        steps = [n for n, result in trial.results.items() if is_number(result.metrics.get(metric))]
        reached.update(steps)
        reporting += bool(steps)
    return max((n for n, count in reached.items() if 2 * count >= reporting), default=None)


def _frozen(trial: TrialRecord, results: SweepResults, axes: list[Axis], iteration: int | None) -> FrozenTrial | None:
    metrics = results.objective.metrics
    result: Result | None = trial.last_with(metrics) if iteration is None else trial.results.get(iteration)
    if result is None or not all(is_number(result.metrics.get(metric)) for metric in metrics):
        return None
    has = [axis for axis in axes if axis.is_in(result.config) and axis.takes(axis.value_in(result.config))]
    return optuna.trial.create_trial(
        values=[float(result.metrics[metric]) for metric in metrics],
        params={axis.name: axis.shown(axis.value_in(result.config)) for axis in has},
        distributions={axis.name: axis.distribution for axis in has if axis.distribution is not None},
    )


class _Resampled(InMemoryStorage):
    """A study whose trials are some of those that it has, a trial as often as it was drawn."""

    drawn: list[FrozenTrial] | None = None

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Called by Optuna."""
        return super().get_all_trials(study_id, deepcopy, states) if self.drawn is None else self.drawn


def _bootstrapped(
    trials: list[FrozenTrial], results: SweepResults, axes: list[Axis], generator: np.random.Generator
) -> list[Importance]:
    storage = _Resampled()
    study = optuna.create_study(storage=storage, directions=directions(results))
    study.add_trials(trials)
    known = study.get_trials(deepcopy=False)
    size = len(known)
    names = [axis.name for axis in axes if all(axis.name in trial.params for trial in known)]
    if len(names) < 2:
        return []
    share = min(0.5, max(BEST_SHARE, BEST_TRIALS / size))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share)

    def evaluate(drawn: Iterable[FrozenTrial]) -> list[float]:
        storage.drawn = list(drawn)
        found = evaluator.evaluate(study, params=names)
        total = math.fsum(found.values())
        return [found[name] / total if total else 1 / len(names) for name in names]

    point = evaluate(known)
    times = min(RESAMPLES, max(FEWEST_RESAMPLES, DRAWS // size))
    resampled = [evaluate(known[i] for i in generator.integers(size, size=size)) for _ in range(times)]
    lows, highs = np.percentile(resampled, INTERVAL, axis=0)
    rows = zip(names, point, lows, highs, strict=True)
    return [Importance(name, here, float(low), float(high)) for name, here, low, high in rows]
