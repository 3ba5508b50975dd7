"""The trials of an earlier sweep as observations for a new one, as far as both have the same space and metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.search.sample import Float, Integer

from raysweep.errors import BadInput
from raysweep.history.results import Objective, SweepResults
from raysweep.history.sweep_state import Result, TrialRecord
from raysweep.spec.configuration import Codec, parameters, untagged
from raysweep.spec.observations import Observation
from raysweep.spec.paths import KeyPath, name_of, value_at
from raysweep.spec.space import CONSTANT, allows, describe
from raysweep.values import is_number, to_json

SHARE_OF_BEST = 4  # one in so many of the first configurations of a population or a bracket is a known good one


@dataclass(frozen=True)
class Earlier:
    """What an earlier sweep has for a new one.

    Attributes:
        name: the sweep's.
        task: that it tuned.
        trials: how many it has.
        observations: of those that come in.
        same: parameters that both sweeps draw from the same domain.
        other: parameters whose domain or value is another one there.
        outside: parameter -> how many trials have a value that the new space has not.
        unusable: how many trials have failed, have not ended, or have no number.
    """

    name: str
    task: str
    trials: int
    observations: tuple[Observation, ...]
    same: tuple[str, ...]
    other: tuple[str, ...]
    outside: Mapping[str, int]
    unusable: int

    @property
    def sentence(self) -> str:
        """What comes in, and what does not, by name."""
        said = [f"warm start from {self.name} (task {self.task}): {len(self.observations)} of {self.trials} trials"]
        said += [f"same parameters: {_listed(self.same)}"] if self.same else []
        said += [f"other ranges there: {_listed(self.other)}"] if self.other else []
        lost = [f"{count} by `{name}`" for name, count in self.outside.items()]
        said += [f"left out, since outside of this space: {', '.join(lost)}"] if lost else []
        said += [f"left out, without a result: {self.unusable}"] if self.unusable else []
        return "; ".join(said)


def earlier(sweep: SweepResults, space: dict[str, Any], objective: Objective, max_iterations: int) -> Earlier:
    """The observations of a sweep, for a new one.

    A trial counts as complete if it was trained for the new sweep's `max_iterations`; of a longer one, the result then.
    A shorter one counts as one that was stopped. A trial of a population has its last configuration.

    Args:
        sweep: that has ended, or goes on.
        space: of the new sweep.
        objective: of the new sweep.
        max_iterations: of the new sweep.

    Raises:
        BadInput: metric, mode or parameters are others, or no trial is inside of the new space; all problems.
    """
    name = str(sweep.spec["name"])
    if problems := [*_metric_problems(sweep, objective), *_parameter_problems(sweep, space)]:
        raise BadInput(*(f"`--warm-start {name}`: {problem}" for problem in problems))
    there, here = sweep.spec["space"], describe(space)
    other = tuple(key for key, line in here.items() if there[key] != line)
    reader, found, outside, unusable = _Reader(space, other), [], Counter[str](), 0
    for trial in sweep.state.trials.values():
        observation = _observed(trial, sweep, objective.metrics, max_iterations)
        if observation is None:
            unusable += 1
        elif away := reader.outside(observation.config):
            outside.update(away)
        else:
            found.append(observation)
    if not found:
        lost = ", ".join(f"{count} by `{key}`" for key, count in outside.items())
        why = f" ({lost} outside of this space)" if lost else ""
        raise BadInput(
            f"`--warm-start {name}`: none of its {len(sweep.state.trials)} trials can be used{why}: leave it out"
        )
    same = tuple(key for key, line in here.items() if key not in other and not line.startswith(CONSTANT))
    task, trials = str(sweep.spec["task"]), len(sweep.state.trials)
    return Earlier(name, task, trials, tuple(found), same, other, dict(outside), unusable)


def best_configurations(observations: Iterable[Observation], mode: str, count: int) -> list[dict[str, Any]]:
    """The best configurations of complete trials, the best first, each once; nested, as the journal has them."""
    sign = 1 if mode == "max" else -1
    ranked = sorted((each for each in observations if each.complete), key=lambda each: -sign * each.values[0])
    different = {to_json(each.config): each.config for each in reversed(ranked)}
    return list(reversed(different.values()))[:count]


def _metric_problems(sweep: SweepResults, objective: Objective) -> Iterator[str]:
    there = dict(zip(sweep.objective.metrics, sweep.objective.modes, strict=True))
    for metric, mode in zip(objective.metrics, objective.modes, strict=True):
        if metric not in there:
            yield f"it optimised {_listed(there)}, and this sweep `{metric}`: give a sweep with the same metric"
        elif there[metric] != mode:
            yield f"its mode for `{metric}` is {there[metric]}, and here it is {mode}: give a sweep with the same mode"


def _parameter_problems(sweep: SweepResults, space: dict[str, Any]) -> Iterator[str]:
    there, here = sweep.spec["space"].keys(), describe(space).keys()
    for name in sorted(here - there):
        yield f"its trials have no `{name}`, which is in this space: leave it out, or give a sweep that has it"
    for name in sorted(there - here):
        yield f"its trials have `{name}`, which is not in this space: add it, or leave the earlier sweep out"


def _observed(trial: TrialRecord, sweep: SweepResults, metrics: tuple[str, ...], most: int) -> Observation | None:
    """What a trial has shown until that iteration; None if it has failed, has not ended, or has shown nothing."""
    if not trial.ended or trial.failed or trial.last is None:
        return None
    last = trial.last_with(metrics)
    if last is None:  # it has diverged, or never reported the metrics
        return _made(trial, sweep, trial.last, (), False) if trial.has_reported(metrics) else None
    cut_short = last.iteration == sweep.spec["max_iterations"] < most
    complete = trial.status == "finished" and not cut_short
    if last.iteration > most:
        last, complete = trial.results.get(most), True
        if last is None or not all(is_number(last.metrics.get(name)) for name in metrics):
            return None
    return _made(trial, sweep, last, tuple(float(last.metrics[name]) for name in metrics), complete)


def _made(
    trial: TrialRecord, sweep: SweepResults, result: Result, values: tuple[float, ...], complete: bool
) -> Observation:
    return Observation(sweep.url, trial.id, result.config, result.iteration, values, complete)


class _Reader:
    """Says which parameters of an earlier configuration have values that a space has not."""

    def __init__(self, space: dict[str, Any], other: tuple[str, ...]) -> None:
        self._codec, self._drawn = Codec(space), parameters(space)
        drawn = {name_of(path) for path in self._drawn}
        self._constants = [name for name in other if name not in drawn] or ["the space's form"]

    def outside(self, written: dict[str, Any]) -> list[str]:
        """Their names; empty for a configuration of the space."""
        names = [name_of(path) for path in self._drawn if not self._holds(path, written)]
        return names or ([] if self._codec.matches(written) else self._constants)

    def _holds(self, path: KeyPath, written: dict[str, Any]) -> bool:
        try:
            value = value_at(written, path)
        except KeyError:
            return False
        choices, domain = self._codec.choices(path), self._drawn[path]
        if choices is not None:
            return choices.has(value)
        return allows(domain, untagged(value)) if isinstance(domain, Float | Integer) else True


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
