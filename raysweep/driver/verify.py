"""The job that trains a sweep's best configurations again, on seeds that it has not seen.

    python -m raysweep.driver.verify --of first --top 3 --seeds 5 --task digits --name first-verify

It is a sweep like any other: it is resumed, runs on every target, and its results are in the storage. `raysweep verify`
sends it, and says what came of it. A trial is given its seed as `config["seed"]`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ray import tune

from raysweep.driver.main import command_of
from raysweep.errors import BadInput
from raysweep.history import results
from raysweep.history.results import SweepResults
from raysweep.loop.random_grid_search import Variants
from raysweep.spec import task as tasks
from raysweep.spec.flags import Flags, knob
from raysweep.spec.initial_points import Point, parse
from raysweep.spec.sweep import Strategy, Sweep
from raysweep.spec.task import Task
from raysweep.values import SEED, to_json, without_seed

LARGEST_SEED = 2**31 - 1  # what numpy, torch and the others take as a seed


@dataclass(frozen=True)
class Knobs:
    """What is verified."""

    of: str = knob("", "Name of the sweep whose best configurations are trained again.", min_length=1)
    top: int = knob(3, "How many configurations, the best first.", ge=1, le=1000)
    seeds: int = knob(5, "How many fresh seeds each is trained with.", ge=1, le=1000)


class Given(Variants):
    """Its points, and nothing else."""

    def total(self, samples: int) -> int:
        """The number of points, whatever `--samples` says."""
        return super().total(0)


def tune_config(sweep: Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Each of the best configurations with each fresh seed; no scheduler, all iterations.

    Raises:
        BadInput: there is no such sweep, or it has no configuration that can be trained again.
    """
    found = results.read(knobs.of, sweep.storage)
    return tune.TuneConfig(search_alg=Given(sweep.space, points(found, sweep.space, knobs.top, knobs.seeds)))


def points(found: SweepResults, space: dict[str, Any], top: int, seeds: int) -> list[Point]:
    """The best configurations of a sweep with fresh seeds: the first seed of all of them, then the next.

    Raises:
        BadInput: the sweep has several objectives, its trials changed their configurations, or none has a result.
    """
    chosen = configurations(found, top)
    used = {trial.config.get(SEED, 0) for trial in found.state.trials.values()}
    fresh = [seed for seed in range(1, seeds + len(used) + 1) if seed not in used][:seeds]
    return parse([{"config": {**config, SEED: seed}} for seed in fresh for config in chosen], space)


def configurations(found: SweepResults, top: int) -> list[dict[str, Any]]:
    """The best configurations of a sweep, the best first, without their seeds.

    Raises:
        BadInput: see `points`.
    """
    name, trials = found.spec["name"], list(found.state.trials.values())
    if not found.objective.single:
        raise BadInput(f"`{name}`: has several objectives, so no trial is the best: choose one of its front by hand")
    if any(trial.donors for trial in trials):
        raise BadInput(
            f"`{name}`: its trials changed their configurations while they ran, so its best result is that of a"
            " schedule, which no single configuration repeats: train its best checkpoint on, or run it with other seeds"
        )
    metric, mode = found.objective.metrics[0], found.objective.modes[0]
    best = [result for trial in trials if (result := trial.best(metric, mode))]
    best.sort(key=lambda result: result.metrics[metric], reverse=mode == "max")
    configs = {to_json(without_seed(each.config)): without_seed(each.config) for each in best}
    if not configs:
        raise BadInput(f"`{name}`: no trial has reported a number for {metric}: nothing can be verified")
    return list(configs.values())[:top]


def task_of(flags: Flags) -> Task:
    """The task, whose space has a parameter `seed` in addition.

    Raises:
        BadInput: there is no such task.
    """
    task = tasks.load(flags.task)
    return dataclasses.replace(task, space={**task.space, SEED: tune.randint(0, LARGEST_SEED)})


STRATEGY = Strategy("verify", tune_config, Knobs, (__doc__ or "").partition("\n")[0])

if __name__ == "__main__":
    command_of(STRATEGY, task_of, "python -m raysweep.driver.verify")()
