"""Exports a sweep of any strategy as an Optuna study, for optuna-dashboard."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import TrialRecord
from raysweep.optuna_quiet import experiments_allowed, silent
from raysweep.spec.space import CONSTANT
from raysweep.values import flat, is_number, plain, to_json

_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
# Longest list of all choices of a parameter, in characters. The line of each trial repeats the list: if every trial has
# a choice of its own, the file would grow with the square of the number of trials.
LONGEST = 2000
LARGEST = 2**53  # largest exact integer in Optuna, which stores a parameter as a float


class _Lines(BaseJournalBackend):
    """The log of a study, in memory, in the format of Optuna's JournalFileBackend.

    That backend takes a lock and syncs the disk for each trial.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Called by Optuna."""
        self.lines += [json.dumps(log, separators=(",", ":")) for log in logs]

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Called by Optuna, which reads back what it has written."""
        return map(json.loads, self.lines[log_number_from:])


def study_log(results: SweepResults) -> bytes:
    """The sweep as an Optuna study in the journal file format, which optuna-dashboard can open."""
    with silent(), experiments_allowed():
        log = _Lines()
        directions = [_DIRECTIONS[mode] for mode in results.objective.modes]
        storage = optuna.storages.JournalStorage(log)
        study = optuna.create_study(storage=storage, study_name=results.spec["name"], directions=directions)
        study.set_metric_names(list(results.objective.metrics))
        axes = _axes(results)
        study.add_trials(_frozen_trial(trial, results, axes) for trial in results.state.trials.values() if trial.ended)
    return "".join(line + "\n" for line in log.lines).encode()


def _frozen_trial(trial: TrialRecord, results: SweepResults, axes: dict[str, BaseDistribution | None]) -> FrozenTrial:
    objective = results.objective
    last = trial.last_with(objective.metrics)
    # As in loop.optuna_search: a trial that diverged, or that no node has room for, is PRUNED.
    complete = trial.status == "finished" and last is not None
    state = TrialState.FAIL if trial.status == "failed" else TrialState.COMPLETE if complete else TrialState.PRUNED
    # In Optuna's studies with several objectives, pruned trials cannot have values.
    has_values = state == TrialState.COMPLETE or (state == TrialState.PRUNED and objective.single)
    values = {key: _choice(value) for key, value in flat(trial.config).items() if key in axes}
    distributions = {key: axis for key in values if (axis := axes[key]) is not None}
    attributes = {f"config/{key}": value for key, value in values.items() if key not in distributions}
    return optuna.trial.create_trial(
        state=state,
        values=[float(last.metrics[metric]) for metric in objective.metrics] if has_values and last else None,
        params={key: values[key] for key in distributions},
        distributions=distributions,
        intermediate_values=_steps(trial, objective.metrics[0]) if objective.single else {},
        user_attrs={"trial": trial.id, "donors": trial.donors, "failed_by": trial.kinds, **attributes},
    )


def _steps(trial: TrialRecord, metric: str) -> dict[int, float]:
    reports = (result for result in trial.results.values() if is_number(result.metrics.get(metric)))
    return {result.iteration: float(result.metrics[metric]) for result in reports}


def _axes(results: SweepResults) -> dict[str, BaseDistribution | None]:
    """Sampled parameter -> an Optuna distribution that contains all values of the trials.

    None if there are too many choices for Optuna; then the parameter becomes an attribute of the trial.
    """
    keys = [key for key, line in results.spec["space"].items() if not line.startswith(CONSTANT)]
    configs = [flat(trial.config) for trial in results.state.trials.values()]
    values = {key: [_choice(config[key]) for config in configs if key in config] for key in keys}
    return {key: _distribution(choices) for key, choices in values.items() if choices}


def _choice(value: Any) -> bool | int | float | str | None:
    """A value as an Optuna choice: a scalar as it is, a list or an object in the text of the journal."""
    if isinstance(value, list | tuple):
        return json.dumps(json.loads(to_json(value)))
    scalar = value if value is None or isinstance(value, bool | int | float | str) else plain(value)
    return scalar if scalar is None or isinstance(scalar, bool | int | float | str) else str(scalar)


def _distribution(values: list[Any]) -> BaseDistribution | None:
    integers = [value for value in values if _is_integer(value)]
    numbers = integers + [value for value in values if isinstance(value, float) and math.isfinite(value)]
    if len(numbers) < len(values):
        choices = sorted(set(values), key=str)
        return CategoricalDistribution(choices) if len(json.dumps(choices)) <= LONGEST else None
    low, high = min(numbers), max(numbers)
    if len(integers) == len(values):
        return IntDistribution(low, high)
    return FloatDistribution(low, high, log=low > 0 and high / low > 50)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
