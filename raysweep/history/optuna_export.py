"""Exports a sweep of any strategy as an Optuna study, for optuna-dashboard."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search.sample import Categorical, Domain, Float, Function, Integer, LogUniform

from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import TrialRecord
from raysweep.optuna_quiet import experiments_allowed, silent
from raysweep.spec.configuration import Choices, parameters
from raysweep.spec.distributions import number_distribution
from raysweep.spec.paths import KeyPath, name_of, value_at
from raysweep.spec.space import scale_of
from raysweep.values import is_number, to_json

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
        self._taken = 0

    def take(self) -> list[str]:
        """The lines since the last call."""
        lines, self._taken = self.lines[self._taken :], len(self.lines)
        return lines

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Called by Optuna."""
        self.lines += [json.dumps(log, separators=(",", ":")) for log in logs]

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Called by Optuna, which reads back what it has written."""
        return map(json.loads, self.lines[log_number_from:])


def study_log(results: SweepResults, space: dict[str, Any]) -> bytes:
    """The sweep as an Optuna study in the journal file format, which optuna-dashboard can open.

    Args:
        results: the sweep, as its journal has it.
        space: of Ray's domains, from which its trials were drawn.
    """
    return StudyLog(results, parameters(space)).grow(results)


class StudyLog:
    """A study in that format, which grows with its sweep: what was written stays as it is, as such a file needs it.

    A value outside of the axes that the study has begun with is an attribute of its trial.

    Args:
        results: the sweep, as its journal has it.
        domains: Ray's, by the paths of the parameters.
    """

    def __init__(self, results: SweepResults, domains: Mapping[KeyPath, Domain]) -> None:
        self._lines, self._ended = _Lines(), set[str]()
        with silent(), experiments_allowed():
            storage, name = optuna.storages.JournalStorage(self._lines), results.spec["name"]
            self._study = optuna.create_study(storage=storage, study_name=name, directions=directions(results))
            self._study.set_metric_names(list(results.objective.metrics))
            self._axes = axes_of(results, domains)

    def grow(self, results: SweepResults) -> bytes:
        """Adds the trials that have ended meanwhile; returns the lines that are new."""
        new = [trial for trial in results.state.trials.values() if trial.ended and trial.id not in self._ended]
        self._ended |= {trial.id for trial in new}
        with silent(), experiments_allowed():
            self._study.add_trials(_frozen_trial(trial, results, self._axes) for trial in new)
        return "".join(line + "\n" for line in self._lines.take()).encode()


def directions(results: SweepResults) -> list[StudyDirection]:
    """Those of a study of this sweep."""
    return [_DIRECTIONS[mode] for mode in results.objective.modes]


def _frozen_trial(trial: TrialRecord, results: SweepResults, axes: list[Axis]) -> FrozenTrial:
    objective = results.objective
    last = trial.last_with(objective.metrics)
    # As in loop.optuna_search: a trial that diverged, or that no node has room for, is PRUNED.
    complete = trial.status == "finished" and last is not None
    state = TrialState.FAIL if trial.status == "failed" else TrialState.COMPLETE if complete else TrialState.PRUNED
    # In Optuna's studies with several objectives, pruned trials cannot have values.
    has_values = state == TrialState.COMPLETE or (state == TrialState.PRUNED and objective.single)
    values = {axis: axis.value_in(trial.config) for axis in axes if axis.is_in(trial.config)}
    shown = {axis: value for axis, value in values.items() if axis.takes(value)}
    frozen = optuna.trial.create_trial(
        state=state,
        values=[float(last.metrics[metric]) for metric in objective.metrics] if has_values and last else None,
        params={axis.name: axis.shown(value) for axis, value in shown.items()},
        distributions={axis.name: axis.distribution for axis in shown if axis.distribution is not None},
        intermediate_values=_steps(trial, objective.metrics[0]) if objective.single else {},
        user_attrs={
            "trial": trial.id,
            "donors": trial.donors,
            "failed_by": trial.kinds,
            "seconds_at_report": {n: round(each.time - trial.began, 3) for n, each in sorted(trial.results.items())},
            **{f"config/{axis.name}": value for axis, value in values.items() if axis not in shown},
        },
    )
    frozen.datetime_start = datetime.fromtimestamp(trial.began, UTC)
    frozen.datetime_complete = datetime.fromtimestamp(max(trial.began, trial.completed), UTC)
    return frozen


def _steps(trial: TrialRecord, metric: str) -> dict[int, float]:
    reports = (result for result in trial.results.values() if is_number(result.metrics.get(metric)))
    return {result.iteration: float(result.metrics[metric]) for result in reports}


class Axis:
    """A parameter of the study: the domain of the space, widened where a trial has another value.

    Args:
        path: of the parameter in a configuration.
        domain: Ray's.
        configs: of all trials, as the journal has them.

    Attributes:
        name: of the parameter, such as `head/act`.
        domain: as given.
        distribution: Optuna's; None if each trial has the value as an attribute, since there are too many choices.
    """

    def __init__(self, path: KeyPath, domain: Any, configs: list[dict[str, Any]]) -> None:
        self.name, self.domain, self._path = name_of(path), domain, path
        values = [self.value_in(config) for config in configs if self.is_in(config)]
        numbers = [value for value in values if _is_number(value)]
        self._choices: dict[str, Any] | None = None
        self.distribution: BaseDistribution | None
        if isinstance(domain, Float | Integer) or (len(numbers) == len(values) > 0 and isinstance(domain, Function)):
            self.distribution = _numbers(domain, numbers)
        else:
            given = Choices(domain.categories).written if isinstance(domain, Categorical) else []
            self._choices = _choices([*given, *values])
            fits = self._choices and len(json.dumps(list(self._choices.values()))) <= LONGEST
            self.distribution = CategoricalDistribution(list(self._choices.values())) if fits else None

    def is_in(self, config: dict[str, Any]) -> bool:
        """Whether a configuration has this parameter; the space may have got it later."""
        try:
            value_at(config, self._path)
        except KeyError:
            return False
        return True

    def value_in(self, config: dict[str, Any]) -> Any:
        """Its value in a configuration."""
        return value_at(config, self._path)

    def takes(self, value: Any) -> bool:
        """Whether Optuna has this value as it is, and not only one near it."""
        if self._choices is not None:
            return self.distribution is not None and to_json(value) in self._choices
        return self.distribution is not None and _is_number(value) and _holds(self.distribution, value)

    def shown(self, value: Any) -> Any:
        """Optuna's value for one that it takes."""
        return value if self._choices is None else self._choices[to_json(value)]


def axes_of(results: SweepResults, domains: Mapping[KeyPath, Domain]) -> list[Axis]:
    """The axes of a study of this sweep, in the order of its domains."""
    configs = [trial.config for trial in results.state.trials.values()]
    return [Axis(path, domain, configs) for path, domain in domains.items()]


def _choices(values: Iterable[Any]) -> dict[str, Any]:
    """The text in the journal -> Optuna's choice, in the order of these values.

    Lists and objects are shown as their text; so are all choices if Optuna took two of them for the same one, as it
    does with 1, 1.0 and True.
    """
    choices = {to_json(value): json.dumps(value) if isinstance(value, list | dict) else value for value in values}
    return choices if len(set(choices.values())) == len(choices) else {text: text for text in choices}


def _numbers(domain: Any, numbers: list[float]) -> BaseDistribution | None:
    """The distribution of a domain. If Optuna has none, or it lacks a value that a trial has had, then one of its
    bounds and scale that holds all values; None if there are neither bounds nor values.
    """
    with contextlib.suppress(TypeError, ValueError):
        distribution = number_distribution(domain)
        if all(_holds(distribution, value) for value in numbers):
            return distribution
    known: list[Any] = numbers + [
        bound for bound in (getattr(domain, "lower", None), getattr(domain, "upper", None)) if _is_number(bound)
    ]
    if not known:
        return None
    low, high = min(known), max(known)
    log = isinstance(scale_of(domain), LogUniform) and low > 0
    if all(isinstance(value, int) and abs(value) <= LARGEST for value in known):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _holds(distribution: BaseDistribution, value: float) -> bool:
    """Whether a distribution has just this value. Optuna keeps numbers as floats, so it may have only one near it."""
    try:
        kept = distribution.to_external_repr(distribution.to_internal_repr(value))
        optuna.trial.create_trial(state=TrialState.RUNNING, params={"": value}, distributions={"": distribution})
    except ValueError:
        return False
    return bool(kept == value)


def _is_number(value: Any) -> bool:
    return is_number(value) and not isinstance(value, bool)
