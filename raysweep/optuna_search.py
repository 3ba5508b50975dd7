"""Optuna's samplers through Ray's OptunaSearch, told the truth about stopped trials, and exact on resume."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from ray.tune.result import TRAINING_ITERATION
from ray.tune.search.optuna import OptunaSearch as RayOptunaSearch
from ray.tune.utils.util import flatten_dict

from raysweep.points import Point
from raysweep.source import STOPPED
from raysweep.state import TrialRecord, is_number

optuna.logging.set_verbosity(optuna.logging.WARNING)


class OptunaSearch(RayOptunaSearch):
    """Ray's OptunaSearch, which tells Optuna the truth and is exact on resume.

    Ray tells Optuna that a trial stopped by a scheduler is COMPLETE with its last value, as if it had been trained
    to the end (https://github.com/ray-project/ray/pull/15283 chose so); TPE then takes an early value for a final
    one. Such a trial is PRUNED
    (https://optuna.readthedocs.io/en/stable/reference/generated/optuna.trial.TrialState.html).
    With several objectives it is PRUNED without values: Optuna has no intermediate ones there, and as COMPLETE it
    could stand on the Pareto front for the seconds that it was not trained. TPE ranks it behind all complete ones.

    The sampler is made anew for each suggestion, seeded with the sweep's seed and the trial's number: the next
    suggestion is a function of the study alone, before and after a resume.

    Args:
        sampler: seed -> an Optuna sampler.
        seed: the sweep's seed.
        points: configurations to try first; one with a known value is learnt from without a trial.
        metric: a list of metrics for a multi-objective search; else the sweep's metric.
        mode: "max" or "min" for each metric of the list.
    """

    def __init__(
        self,
        sampler: Callable[[int], optuna.samplers.BaseSampler],
        *,
        seed: int = 0,
        points: Iterable[Point] = (),
        metric: list[str] | None = None,
        mode: list[str] | None = None,
    ) -> None:
        self._make_sampler, self._base_seed, self._given = sampler, seed, list(points)
        super().__init__(sampler=self._sampler_for(0), metric=metric, mode=mode)

    def _sampler_for(self, number: int) -> optuna.samplers.BaseSampler:
        mixed = np.random.SeedSequence([self._base_seed, number]).generate_state(1)[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return self._make_sampler(int(mixed))

    @property
    def study(self) -> optuna.Study:
        """The study behind the search; exists once Ray has given the space."""
        assert self._ot_study is not None
        return self._ot_study

    def begin(self, adopted: list[TrialRecord]) -> None:
        """Fills the study: known values, then the journal's trials, then the points that were not tried yet."""
        for point in self._given:
            if point.value is not None:
                self.add_evaluated_point(flatten_dict(point.config), point.value)
        for trial in adopted:
            self._adopt(trial)
        for point in [p for p in self._given if p.value is None][len(adopted) :]:
            self.study.enqueue_trial(flatten_dict(point.config))

    def _adopt(self, trial: TrialRecord) -> None:
        values = {i: r.metrics[self._metric] for i, r in trial.results.items() if self._single(r.metrics)}
        frozen = optuna.trial.create_trial(
            state=self._state(trial),
            values=self._final(trial, values),
            params={k: v for k, v in flatten_dict(trial.config).items() if k in self._space},
            distributions=self._space,
            intermediate_values=values,
            system_attrs=trial.memory,
        )
        self.study.add_trial(frozen)
        added = self.study.get_trials(deepcopy=False)[-1]  # a copy of all trials for each would be quadratic
        self._ot_trials[trial.id] = optuna.trial.Trial(self.study, added._trial_id)
        if trial.ended:
            self._completed_trials.add(trial.id)

    def _single(self, metrics: dict[str, Any]) -> bool:
        return isinstance(self._metric, str) and is_number(metrics.get(self._metric))

    def _state(self, trial: TrialRecord) -> TrialState:
        if trial.status == "finished" and trial.last and self._values(trial.last.metrics) is not None:
            return TrialState.COMPLETE
        # A trial that diverged, or has no room, ranks behind all complete ones; of a FAIL, a sampler would not learn.
        if trial.status == "failed":
            return TrialState.FAIL
        return TrialState.PRUNED if trial.ended else TrialState.RUNNING

    def _final(self, trial: TrialRecord, intermediate: dict[int, float]) -> list[float] | None:
        state = self._state(trial)
        if state == TrialState.COMPLETE and trial.last:
            return self._values(trial.last.metrics)
        if state == TrialState.PRUNED and intermediate:
            return [intermediate[max(intermediate)]]
        return None

    def _values(self, metrics: dict[str, Any]) -> list[float] | None:
        names = self._metric if isinstance(self._metric, list) else [self._metric]
        values = [metrics.get(name) for name in names]
        return [float(v) for v in values] if all(is_number(v) for v in values) else None  # type: ignore[arg-type]

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The configuration of the trial with this number."""
        self.study.sampler = self._sampler_for(int(trial_id))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            config: dict[str, Any] | None = super().suggest(trial_id)
        return config

    def memory(self, trial_id: str) -> dict[str, Any]:
        """What the sampler noted on a trial, such as the state of CMA-ES; goes into the journal."""
        return dict(self.study.get_trials(deepcopy=False)[self._ot_trials[trial_id].number].system_attrs)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Reports an iteration to the study, unless the value is not a number or there are several objectives."""
        if trial_id not in self._completed_trials and self._single(result):
            self._report(trial_id, result)

    def _report(self, trial_id: str, result: dict[str, Any]) -> None:
        # Optuna's own `report` keeps the first value of a step and warns of a second one. A trial that goes back to
        # its checkpoint repeats steps, and its newest values count, in the journal too.
        trial = self._ot_trials[trial_id]
        step, value = result[TRAINING_ITERATION], float(result[self._metric])
        trial.storage.set_trial_intermediate_value(trial._trial_id, step, value)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells the study how a trial ended: COMPLETE, PRUNED if a scheduler stopped it, FAIL."""
        if trial_id in self._completed_trials:
            return
        trial, values = self._ot_trials[trial_id], self._values(result or {})
        stopped = result is None or result.get(STOPPED, False)
        if error:
            self.study.tell(trial, state=TrialState.FAIL)
        elif stopped or values is None:
            if result is not None and self._single(result):
                self._report(trial_id, result)
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, values)
        self._completed_trials.add(trial_id)
