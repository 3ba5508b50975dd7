"""The decisions are those of Ray Tune itself: the same scheduler decides the same in Ray's own Tuner.

In both, one trial runs at a time, with the same points in the same order and the same draws. While one trial runs,
Ray's controller stages the next ones, and takes the one that the scheduler chooses only if processes are reused
(`reuse_actors`). HyperBand and populations need all trials to be created at once, which the Tuner does by itself; for
the other schedulers there is one live trial at a time (`max_concurrent`), as in the loop.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune
from ray.tune.schedulers import (
    ASHAScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search.basic_variant import BasicVariantGenerator

from raysweep.driver import local_ray
from raysweep.loop.simulation import Step, simulate
from raysweep.spec.initial_points import Point
from raysweep.spec.sweep import Sweep
from raysweep.spec.task import Task
from tests.loop.sweeps import draw

LAST, SEED = 9, 3
SPACE = {"x": tune.uniform(0.0, 1.0)}
TASK = Task("heights", lambda config: None, SPACE, "loss", "min", LAST, mutable=("x",))
PLACES = [0.31, 0.77, 0.05, 0.52, 0.93, 0.12, 0.68, 0.44]

pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray Tune's own


def next_height(config: dict[str, Any], iteration: int, height: float) -> float:
    return height * (0.5 + 0.4 * draw(config["x"], iteration))


def outcome(trial: str, config: dict[str, Any], iteration: int, state: Any) -> Step:
    height = next_height(config, iteration, 1.0 if state is None else state)
    return Step({"loss": config["x"] ** 2 + height}, 1.0, height)


def trainable(config: dict[str, Any]) -> None:
    """The same for Ray's Tuner."""
    height, done, saved = 1.0, 0, tune.get_checkpoint()
    if saved:
        with saved.as_directory() as folder:
            height, done = json.loads((Path(folder) / "state.json").read_text())
    for iteration in range(done + 1, LAST + 1):
        height = next_height(config, iteration, height)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "state.json").write_text(json.dumps([height, iteration]))
            tune.report({"loss": config["x"] ** 2 + height}, checkpoint=tune.Checkpoint.from_directory(folder))


class Watched:
    """Mixed into one of Ray's schedulers: records its results and decisions, trials by their numbers."""

    def watch(self, seeded: bool) -> None:
        self.seeded, self.recorded = seeded, []
        self.numbers, self.exploits = {}, {}

    def _seed(self, trial: Any, visit: str) -> None:
        """As `Scheduler` does before each decision."""
        if self.seeded:
            digest = hashlib.sha256(f"{SEED}/{self.numbers[trial]:05d}/{visit}".encode()).digest()
            random.seed(digest)
            np.random.seed(int.from_bytes(digest[:4], "big"))

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        self.exploits[trial], self.numbers[trial] = 0, len(self.numbers)
        self._seed(trial, "0")
        super().on_trial_add(controller, trial)

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        exploits, note = self.exploits[trial], (self.numbers[trial], result["training_iteration"], result["loss"])
        self._seed(trial, f"{result['training_iteration']}" + (f"/{exploits}" if exploits else ""))
        decision = super().on_trial_result(controller, trial, result)
        if decision == TrialScheduler.NOOP:
            self.exploits[trial] += 1
            self.recorded.append((*note, "exploits", donor_of(trial), dict(trial.config)))
        elif not (isinstance(self, HyperBandScheduler) and note in [each[:3] for each in self.recorded]):
            self.recorded.append((*note, decision))  # HyperBand may get the same result again
        return decision

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self.recorded.append((self.numbers[trial], result["training_iteration"], result["loss"], "ends"))
        super().on_trial_complete(controller, trial, result)

    def on_trial_remove(self, controller: Any, trial: Any) -> None:
        self.recorded.append((self.numbers[trial], "leaves"))
        super().on_trial_remove(controller, trial)


def donor_of(trial: Any) -> int:
    """The number of the trial whose checkpoint this one has just been given."""
    # Ours: checkpoints/00002/…; Ray's: trainable_35321_00002_2_2026-11-26_…, whose first number is the experiment's.
    return int(re.search(r"(?:/|_)(\d{5})(?:/|_\d+_\d{4}-)", trial.checkpoint.path)[1])


def watched(kind: type, seeded: bool, **arguments: Any) -> Any:
    scheduler = type(f"Watched{kind.__name__}", (Watched, kind), {})(**arguments)
    scheduler.watch(seeded)
    return scheduler


SCHEDULERS: dict[str, tuple[type, dict[str, Any]]] = {
    "asha": (ASHAScheduler, {"max_t": LAST, "grace_period": 1, "reduction_factor": 3}),
    "hyperband": (HyperBandScheduler, {"max_t": LAST, "reduction_factor": 3}),
    "median_stopping": (
        MedianStoppingRule,
        {"time_attr": "training_iteration", "grace_period": 1, "min_samples_required": 2},
    ),
    "pbt": (
        PopulationBasedTraining,
        {
            "time_attr": "training_iteration",
            "perturbation_interval": 2,
            "hyperparam_mutations": SPACE,
            "quantile_fraction": 0.4,
            "log_config": False,
        },
    ),
}
ONE_ALIVE = ("asha", "median_stopping")  # the others decide over all trials together


def in_ray(name: str, folder: Path) -> list[Any]:
    kind, arguments = SCHEDULERS[name]
    scheduler = watched(kind, True, **arguments)
    search = BasicVariantGenerator(
        points_to_evaluate=[{"x": x} for x in PLACES], max_concurrent=1 if name in ONE_ALIVE else 0
    )
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": local_ray.cpus()}),
        param_space=SPACE,
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            num_samples=len(PLACES),
            scheduler=scheduler,
            search_alg=search,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(folder), stop={"training_iteration": LAST}, verbose=0),
    ).fit()
    return scheduler.recorded


def here(name: str) -> list[Any]:
    kind, arguments = SCHEDULERS[name]
    scheduler = watched(kind, False, **arguments)
    points = tuple(Point({"x": x}) for x in PLACES)
    sweep = Sweep("s", name, TASK, SPACE, "loss", "min", len(PLACES), LAST, points, SEED, "unused")
    simulate(tune.TuneConfig(scheduler=scheduler), sweep, outcome)
    return scheduler.recorded


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_decides_as_it_does_in_rays_tuner(name: str, private_ray: None, tmp_path: Path) -> None:
    ours, rays = here(name), in_ray(name, tmp_path)
    assert ours == rays
    assert name != "pbt" or len({note[4] for note in ours if note[3] == "exploits"}) > 1
    assert name == "pbt" or any("STOP" in note or "leaves" in note for note in ours)
