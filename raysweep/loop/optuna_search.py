"""Optuna's samplers by ask and tell, with the true state of stopped trials, and exact on resume."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.sample import Domain, Quantized, Uniform

from raysweep.history.sweep_state import TrialRecord
from raysweep.loop.searcher import FIXED, STOPPED
from raysweep.optuna_quiet import experiments_allowed, silent
from raysweep.spec.configuration import Choices, Codec, filled, has_domains, parameters
from raysweep.spec.distributions import number_distribution
from raysweep.spec.initial_points import Point
from raysweep.spec.observations import Observation
from raysweep.spec.paths import KeyPath, name_of, value_at
from raysweep.spec.space import quantum
from raysweep.values import TRAINING_ITERATION, is_number

log = logging.getLogger(__name__)


class OptunaSearch(Searcher):
    """One of Optuna's samplers as a searcher that reports stopped trials as pruned, and is exact on resume.

    Ray's own OptunaSearch tells Optuna that a trial stopped by a scheduler is COMPLETE with its last value, as if it
    had been trained to the end (https://github.com/ray-project/ray/pull/15283 chose so); TPE then takes an early value
    for a final one. Here such a trial is PRUNED
    (https://optuna.readthedocs.io/en/stable/reference/generated/optuna.trial.TrialState.html).
    With several objectives it is PRUNED without values: Optuna has no intermediate ones there, and as COMPLETE it
    could stand on the Pareto front for the seconds that it was not trained. TPE ranks it behind all complete ones.

    A new sampler is created for each suggestion, seeded with the sweep's seed and the trial's number: the next
    suggestion depends on the study alone, before and after a resume.

    Args:
        sampler: seed -> an Optuna sampler.
        seed: the sweep's seed.
        points: configurations to try first; one with a known value enters the study without a trial.
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
        super().__init__(metric=metric, mode=mode)
        self._make_sampler, self._seed, self._points = sampler, seed, list(points)
        self._storage = optuna.storages.InMemoryStorage()
        self._study: optuna.Study | None = None
        self._space: dict[str, Any] = {}
        self._parameters: list[_Parameter] = []
        self._earlier: tuple[Observation, ...] = ()
        self._ids: dict[str, int] = {}  # trial -> its id in Optuna's storage

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Called with the sweep's metric, mode and space; the searcher's own metric and mode stay if none is given.

        Raises:
            ValueError: Optuna cannot draw from this space, or metric or mode is missing.
        """
        if self._study is not None:
            return False
        super().__init__(metric=metric or self.metric, mode=mode or self.mode)  # Ray has no other way to set them
        if not self.metric or not self.mode:
            raise ValueError("OptunaSearch needs a metric and a mode")
        self._space, self._parameters = config, _parameters(config)
        modes = self.mode if isinstance(self.mode, list) else [self.mode]
        with silent():
            self._study = optuna.create_study(
                storage=self._storage,
                sampler=self._sampler_for(0),
                pruner=optuna.pruners.NopPruner(),
                directions=["minimize" if mode == "min" else "maximize" for mode in modes],
            )
        return True

    def _sampler_for(self, number: int) -> optuna.samplers.BaseSampler:
        mixed = np.random.SeedSequence([self._seed, number]).generate_state(1)[0]
        with experiments_allowed():
            return self._make_sampler(int(mixed))

    @property
    def study(self) -> optuna.Study:
        """The study behind the search; exists once the space is set."""
        if self._study is None:
            raise RuntimeError("the study exists once set_search_properties has given the space")
        return self._study

    def learn(self, observations: Sequence[Observation]) -> None:
        """The trials of earlier sweeps, which `begin` puts into the study before all others."""
        self._earlier = tuple(observations)

    def _observe(self, earlier: Observation) -> None:
        """Puts an earlier trial into the study: COMPLETE, or PRUNED if it was not trained to its end."""
        params = {each.name: each.adopted(value_at(earlier.config, each.path)) for each in self._parameters}
        if earlier.complete:
            self._add(TrialState.COMPLETE, params, list(earlier.values))
        elif earlier.values and isinstance(self.metric, str):
            steps = {earlier.iteration: earlier.values[0]}
            self._add(TrialState.PRUNED, params, list(earlier.values), steps)
        else:
            self._add(TrialState.PRUNED, params, None)

    def begin(self, adopted: list[TrialRecord]) -> None:
        """Fills the study: earlier sweeps' trials, known values, the journal's trials, then the points left to try."""
        for earlier in self._earlier:
            self._observe(earlier)
        waiting = [self._to_optuna(point.config) for point in self._points if point.value is None]
        for point in self._points:
            if point.value is not None:
                self._add(TrialState.COMPLETE, self._to_optuna(point.config), [point.value])
        for trial in adopted:
            try:
                self._adopt(trial)
            except (KeyError, ValueError) as error:
                log.warning("trial %s is left out of the study: it was not drawn from this space: %s", trial.id, error)
            if trial.memory.get(FIXED) in waiting:
                waiting.remove(trial.memory[FIXED])
        for params in waiting:
            self.study.enqueue_trial(params)

    @property
    def waiting(self) -> int:
        """The number of points that are still to be tried."""
        return len(self.study.get_trials(deepcopy=False, states=[TrialState.WAITING]))

    def _to_optuna(self, config: dict[str, Any]) -> dict[str, Any]:
        """The parameters of a point as Optuna represents them; a point need not set all of them."""
        params: dict[str, Any] = {}
        for each in self._parameters:
            with contextlib.suppress(KeyError):
                params[each.name] = each.to_optuna(value_at(config, each.path))
        return params

    def _adopt(self, trial: TrialRecord) -> None:
        params = {each.name: each.adopted(value_at(trial.config, each.path)) for each in self._parameters}
        steps = {i: float(r.metrics[self.metric]) for i, r in trial.results.items() if self._single(r.metrics)}
        state, values = self._end(trial, steps)
        self._ids[trial.id] = self._add(state, params, values, steps, trial.memory)

    def _end(self, trial: TrialRecord, steps: dict[int, float]) -> tuple[TrialState, list[float] | None]:
        """The state and the values of an adopted trial."""
        last = trial.last_with(self._metrics)
        if trial.status == "finished" and last is not None:
            return TrialState.COMPLETE, self._values(last.metrics)
        if trial.status == "failed":
            return TrialState.FAIL, None
        # A trial that diverged or is infeasible ranks behind all complete ones; samplers would ignore a FAIL.
        if trial.ended:
            return TrialState.PRUNED, [steps[max(steps)]] if steps else None
        return TrialState.RUNNING, None

    def _add(
        self,
        state: TrialState,
        params: dict[str, Any],
        values: list[float] | None,
        steps: dict[int, float] | None = None,
        memory: dict[str, Any] | None = None,
    ) -> int:
        frozen = optuna.trial.create_trial(
            state=state,
            values=values,
            params=params,
            distributions={each.name: each.distribution for each in self._parameters},
            intermediate_values=steps,
            system_attrs=memory,
        )
        # The study's own `add_trial` does the same, but does not return the id.
        return self._storage.create_new_trial(self._study_id, frozen)

    @property
    def _study_id(self) -> int:
        return self._storage.get_study_id_from_name(self.study.study_name)

    @property
    def _metrics(self) -> list[str]:
        return self.metric if isinstance(self.metric, list) else [self.metric]

    def _single(self, metrics: dict[str, Any]) -> bool:
        """Whether there is only one objective, and its value is a number."""
        return isinstance(self.metric, str) and is_number(metrics.get(self.metric))

    def _values(self, metrics: dict[str, Any]) -> list[float] | None:
        values = [metrics.get(name) for name in self._metrics]
        return [float(v) for v in values] if all(is_number(v) for v in values) else None  # type: ignore[arg-type]

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The whole configuration of the trial with this number: drawn parameters, and the space's constants."""
        if trial_id not in self._ids:
            self._ids[trial_id] = self._ask(int(trial_id))
        params = self._storage.get_trial(self._ids[trial_id]).params
        return dict(filled(self._space, {each.path: each.from_optuna(params[each.name]) for each in self._parameters}))

    def _ask(self, number: int) -> int:
        self.study.sampler = self._sampler_for(number)
        with experiments_allowed():
            trial = self.study.ask({each.name: each.distribution for each in self._parameters})
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)

    def memory(self, trial_id: str) -> dict[str, Any]:
        """What the sampler stored with a trial, such as the state of CMA-ES, and the point that it tries."""
        return dict(self._storage.get_trial(self._ids[trial_id]).system_attrs)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Reports an iteration to the study, unless the value is not a number or there are several objectives.

        Optuna's own `report` keeps the first value of a step and warns of a second one. A trial that goes back to its
        checkpoint repeats steps, and its newest values count, as in the journal.
        """
        if not self._is_running(trial_id):
            return
        optuna_id, step = self._ids[trial_id], result[TRAINING_ITERATION]
        if self._single(result):
            self._storage.set_trial_intermediate_value(optuna_id, step, float(result[self.metric]))
        else:  # a repeated step may have no value now; an old one can only be removed from the storage's own record
            self._storage.get_trial(optuna_id).intermediate_values.pop(step, None)

    def _is_running(self, trial_id: str) -> bool:
        """Whether a trial is in the study and has not ended there; some adopted trials are left out of it."""
        optuna_id = self._ids.get(trial_id)
        return optuna_id is not None and self._storage.get_trial(optuna_id).state is TrialState.RUNNING

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Ends a trial in the study: COMPLETE, PRUNED if it was stopped or has no values, or FAIL.

        Args:
            trial_id: the trial.
            result: its newest result with a number for each metric; None if it has none.
            error: whether it failed for good.
        """
        if not self._is_running(trial_id):
            return
        if result is not None and self._single(result):
            # Also for a trial that failed or diverged, as after a resume: the journal has all its results.
            self.on_trial_result(trial_id, result)
        state, values = TrialState.PRUNED, None
        if error:
            state = TrialState.FAIL
        elif result is not None and not result.get(STOPPED, False):
            values = self._values(result)
            state = TrialState.PRUNED if values is None else TrialState.COMPLETE
        self.study.tell(self._storage.get_trial_number_from_id(self._ids[trial_id]), values, state)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the journal has it."""


@dataclass(frozen=True)
class _Parameter:
    """A parameter that is drawn.

    Attributes:
        path: its keys in a configuration.
        distribution: that Optuna draws from.
        choices: of which Optuna draws the index; None if Optuna draws the value itself.
    """

    path: KeyPath
    distribution: BaseDistribution
    choices: Choices | None = None

    @property
    def name(self) -> str:
        """Its name in Optuna."""
        return name_of(self.path)

    def to_optuna(self, value: Any) -> Any:
        """Optuna's value for a value of the space.

        Raises:
            ValueError: it is none of the choices.
        """
        return value if self.choices is None else self._known(self.choices.index_of(value), value)

    def adopted(self, written: Any) -> Any:
        """Optuna's value for what the journal has of a value.

        Raises:
            ValueError: it was not drawn from these choices.
        """
        return written if self.choices is None else self._known(self.choices.index_of_written(written), written)

    def _known(self, index: int | None, value: Any) -> int:
        if index is None:
            raise ValueError(f"`{self.name}` is {value!r}, which is none of the choices")
        return index

    def from_optuna(self, value: Any) -> Any:
        """The value of the space, the same object, for a value that Optuna has drawn."""
        return value if self.choices is None else self.choices.values[value]


def _parameters(space: dict[str, Any]) -> list[_Parameter]:
    """The drawn parameters of a space, by depth as in Ray's own OptunaSearch, so that the same seed draws the same."""
    codec, domains = Codec(space), parameters(space)
    if grids := [path for path, domain in domains.items() if domain.is_grid()]:
        raise ValueError(f"`{name_of(grids[0])}` is a grid_search, which Optuna cannot draw")
    drawn = [_parameter(path, domains[path], codec.choices(path)) for path in sorted(domains, key=len)]
    duplicates = [name for name, count in Counter(each.name for each in drawn).items() if count > 1]
    if duplicates:
        raise ValueError(f"`{duplicates[0]}` is the name of two parameters: one is nested, one has a slash in its key")
    return drawn


def _parameter(path: KeyPath, domain: Domain, choices: Choices | None) -> _Parameter:
    if choices is not None and any(map(has_domains, choices.values)):
        raise ValueError(f"`{name_of(path)}` is a choice between domains, which Optuna cannot draw")
    if choices is not None and isinstance(domain.get_sampler(), Uniform):
        if _plain(choices):
            return _Parameter(path, CategoricalDistribution(choices.values))
        # Two equal choices share the index of the first one, as in Optuna itself.
        return _Parameter(path, CategoricalDistribution(choices.firsts), choices)
    try:
        distribution = number_distribution(domain)
    except TypeError as error:
        raise ValueError(
            f"`{name_of(path)}` is {error}, which Optuna cannot draw: use a domain such as tune.uniform"
        ) from None
    if distribution.log and isinstance(domain.get_sampler(), Quantized):
        log.warning("Optuna draws no steps on a logarithmic scale: the quantum %g is ignored", quantum(domain))
    return _Parameter(path, distribution)


def _plain(choices: Choices) -> bool:
    """Whether Optuna takes the choices as they are, and the journal has them so; to Optuna, 1 and True are the same."""
    scalars = all(value is None or type(value) in (bool, int, float, str) for value in choices.values)
    return scalars and choices.written == choices.values and len(set(choices.values)) == len(set(choices.firsts))
