"""A sweep as an Optuna study, whatever the strategy, so that optuna-dashboard shows it."""

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

from raysweep.history.journal import plain, to_json
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import TrialRecord
from raysweep.optuna_quiet import experiments_allowed, silent
from raysweep.spec.space import CONSTANT
from raysweep.values import flat, is_number

_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
# Characters of all choices of a parameter together. Each trial's line has them all: with one choice a trial, the file
# would grow with the square of the trials.
LONGEST = 2000
LARGEST = 2**53  # of the integers that Optuna keeps as they are: it makes a parameter a float


class _Lines(BaseJournalBackend):
    """The log of a study in memory, in the lines that Optuna's JournalFileBackend writes and reads.

    That one takes a lock and waits for the disk with each trial.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Called by Optuna."""
        self.lines += [json.dumps(log, separators=(",", ":")) for log in logs]

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Called by Optuna, which reads what it has written before it believes it."""
        return map(json.loads, self.lines[log_number_from:])


def study_log(results: SweepResults) -> bytes:
    """The sweep as an Optuna study in the journal-file format, which optuna-dashboard opens."""
    with silent(), experiments_allowed():
        log = _Lines()
        directions = [_DIRECTIONS[mode] for mode in results.objective.modes]
        storage = optuna.storages.JournalStorage(log)
        study = optuna.create_study(storage=storage, study_name=results.spec["name"], directions=directions)
        study.set_metric_names(list(results.objective.metrics))
        axes = _axes(results)
        study.add_trials(_frozen(trial, results, axes) for trial in results.state.trials.values() if trial.ended)
    return "".join(line + "\n" for line in log.lines).encode()


def _frozen(trial: TrialRecord, results: SweepResults, axes: dict[str, BaseDistribution | None]) -> FrozenTrial:
    objective = results.objective
    last = trial.last_with(objective.metrics)
    # As the searcher was told: what diverged or found no room is PRUNED, see optuna_search.
    complete = trial.status == "finished" and last is not None
    state = TrialState.FAIL if trial.status == "failed" else TrialState.COMPLETE if complete else TrialState.PRUNED
    # Optuna's studies with several objectives know no pruned trials with values.
    told = state == TrialState.COMPLETE or (state == TrialState.PRUNED and objective.single)
    drawn = {key: _choice(value) for key, value in flat(trial.config).items() if key in axes}
    distributions = {key: axis for key in drawn if (axis := axes[key]) is not None}
    others = {f"config/{key}": value for key, value in drawn.items() if key not in distributions}
    return optuna.trial.create_trial(
        state=state,
        values=[float(last.metrics[metric]) for metric in objective.metrics] if told and last else None,
        params={key: drawn[key] for key in distributions},
        distributions=distributions,
        intermediate_values=_steps(trial, objective.metrics[0]) if objective.single else {},
        user_attrs={"trial": trial.id, "donors": trial.donors, "failed_by": trial.kinds, **others},
    )


def _steps(trial: TrialRecord, metric: str) -> dict[int, float]:
    told = (result for result in trial.results.values() if is_number(result.metrics.get(metric)))
    return {result.iteration: float(result.metrics[metric]) for result in told}


def _axes(results: SweepResults) -> dict[str, BaseDistribution | None]:
    """Parameter -> a distribution that holds all values that were tried, for each that was drawn.

    None where Optuna has none: of too many choices. Such a parameter is an attribute of the trial.
    """
    drawn = [key for key, line in results.spec["space"].items() if not line.startswith(CONSTANT)]
    configs = [flat(trial.config) for trial in results.state.trials.values()]
    tried = {key: [_choice(config[key]) for config in configs if key in config] for key in drawn}
    return {key: _distribution(values) for key, values in tried.items() if values}


def _choice(value: Any) -> bool | int | float | str | None:
    """What Optuna can choose from: plain values; a list and an object are shown as the journal writes them."""
    if isinstance(value, list | tuple):
        return json.dumps(json.loads(to_json(value)))
    known = value if value is None or isinstance(value, bool | int | float | str) else plain(value)
    return known if known is None or isinstance(known, bool | int | float | str) else str(known)


def _distribution(tried: list[Any]) -> BaseDistribution | None:
    integers = [value for value in tried if _is_integer(value)]
    numbers = integers + [value for value in tried if isinstance(value, float) and math.isfinite(value)]
    if len(numbers) < len(tried):
        choices = sorted(set(tried), key=str)
        return CategoricalDistribution(choices) if len(json.dumps(choices)) <= LONGEST else None
    low, high = min(numbers), max(numbers)
    if len(integers) == len(tried):
        return IntDistribution(low, high)
    return FloatDistribution(low, high, log=low > 0 and high / low > 50)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
