"""A sweep as an Optuna study, whatever the strategy, so that optuna-dashboard shows it."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from raysweep.journal import plain
from raysweep.points import flat
from raysweep.results import SweepResults
from raysweep.space import CONSTANT
from raysweep.state import TrialRecord, is_number

optuna.logging.set_verbosity(optuna.logging.WARNING)
_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}


def study_log(results: SweepResults) -> bytes:
    """The sweep as an Optuna study in the journal-file format, which optuna-dashboard opens."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        path = Path(folder) / "optuna.log"
        directions = [_DIRECTIONS[mode] for mode in results.objective.modes]
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(path))),
            study_name=results.spec["name"],
            directions=directions,
        )
        study.set_metric_names(list(results.objective.metrics))
        axes = _axes(results)
        study.add_trials([_frozen(trial, results, axes) for trial in results.state.trials.values() if trial.ended])
        return path.read_bytes()


def _frozen(trial: TrialRecord, results: SweepResults, axes: dict[str, BaseDistribution]) -> FrozenTrial:
    objective = results.objective
    last = trial.last.metrics if trial.last else {}
    values: list[float] = [last[metric] for metric in objective.metrics if is_number(last.get(metric))]
    whole = len(values) == len(objective.metrics)
    # As the searcher was told: what diverged or found no room is PRUNED, see optuna_search.
    complete = trial.status == "finished" and whole
    state = TrialState.FAIL if trial.status == "failed" else TrialState.COMPLETE if complete else TrialState.PRUNED
    # Optuna's studies with several objectives know no pruned trials with values.
    told = whole and (state == TrialState.COMPLETE or (state == TrialState.PRUNED and objective.single))
    params = {key: _choice(value) for key, value in flat(trial.config).items() if key in axes}
    metric = objective.metrics[0]
    steps = {i: r.metrics[metric] for i, r in trial.results.items() if is_number(r.metrics.get(metric))}
    return optuna.trial.create_trial(
        state=state,
        values=values if told else None,
        params=params,
        distributions={key: axes[key] for key in params},
        intermediate_values=steps if objective.single else {},
        user_attrs={"trial": trial.id, "donors": trial.donors, "failed_by": trial.kinds},
    )


def _axes(results: SweepResults) -> dict[str, BaseDistribution]:
    """Parameter -> a distribution that holds all values that were tried, for each that was drawn."""
    drawn = [key for key, line in results.spec["space"].items() if not line.startswith(CONSTANT)]
    configs = [flat(trial.config) for trial in results.state.trials.values()]
    tried = {key: [_choice(config[key]) for config in configs if key in config] for key in drawn}
    return {key: _distribution(values) for key, values in tried.items() if values}


def _choice(value: Any) -> Any:
    """What Optuna can choose from: plain values; a list and an object are shown as the journal writes them."""
    if isinstance(value, list | tuple):
        return json.dumps(value, default=plain)
    return value if value is None or isinstance(value, bool | int | float | str) else plain(value)


def _distribution(tried: list[Any]) -> BaseDistribution:
    if all(isinstance(v, int) and not isinstance(v, bool) for v in tried):
        return IntDistribution(min(tried), max(tried))
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in tried):
        low, high = min(tried), max(tried)
        return FloatDistribution(low, high, log=low > 0 and high / low > 50)
    return CategoricalDistribution(sorted(set(tried), key=str))
