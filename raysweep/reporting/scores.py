"""The result of each trial that counts, looked for once: a long sweep has hundreds of thousands."""

from __future__ import annotations

from raysweep.history.results import Objective, SweepResults
from raysweep.history.sweep_state import Result, TrialRecord

Scored = list[tuple[TrialRecord, Result]]


def sign_of(objective: Objective) -> int:
    """1 if more of the first metric is better, else -1."""
    return 1 if objective.modes[0] == "max" else -1


def scored(results: SweepResults) -> Scored:
    """The trials that reported what is optimised, in the order in which they were suggested.

    Each has its best result by the metric; of several metrics, its last one.
    """
    objective = results.objective
    found = []
    for trial in results.state.trials.values():
        single = objective.single
        shown = trial.best(objective.metrics[0], objective.modes[0]) if single else trial.last_with(objective.metrics)
        if shown:
            found.append((trial, shown))
    return found


def ranked(results: SweepResults, found: Scored) -> Scored:
    """The best first, by the first metric."""
    sign, metric = sign_of(results.objective), results.objective.metrics[0]
    return sorted(found, key=lambda pair: -sign * pair[1].metrics[metric])
