"""Finished sweeps of the task quadratic in a folder, simulated: no process is started; and a table of their curves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from raysweep.driver import verify
from raysweep.history.results import SweepResults, read
from raysweep.loop.simulation import Step, simulate
from raysweep.spec.flags import Flags
from raysweep.spec.space import describe
from raysweep.spec.sweep import Sweep, knobs_of, settle, strategy
from raysweep.spec.task import load
from raysweep.storage import FolderStorage
from raysweep.study.record import record
from raysweep.study.table import CurveTable

TASK = load("quadratic")
ITERATIONS = 6


def noisy(trial: str, config: dict[str, Any], iteration: int, state: Any) -> Step:
    """The task's loss with noise that depends on the seed; a second, and more for a slow pace."""
    draw = np.random.default_rng([iteration, int(config.get("seed", 0)), int(1e6 * abs(config["x"]))])
    loss = (config["x"] - 1) ** 2 + (config["y"] + 2) ** 2 + config["pace"] ** iteration
    return Step({"loss": loss + 0.1 * float(draw.random()), "other": float(iteration)}, 1.0 + config["pace"], iteration)


def sweep(folder: Path, name: str, strategy_name: str = "random_search", **options: Any) -> SweepResults:
    """A finished sweep; `trial_seed` is a constant `seed` of its space, `outcome` replaces the noisy one."""
    trial_seed, outcome = options.pop("trial_seed", None), options.pop("outcome", noisy)
    task = TASK if trial_seed is None else dataclasses.replace(TASK, space={**TASK.space, "seed": trial_seed})
    samples, seed = options.pop("samples", 8), options.pop("seed", 0)
    chosen = strategy(strategy_name)
    asked = Sweep(name, strategy_name, task, task.space, "loss", "min", samples, ITERATIONS, (), seed, str(folder))
    spec = {
        "name": name, "strategy": strategy_name, "task": "quadratic", "metrics": ["loss"], "modes": ["min"],
        "seed": seed, "samples": samples, "max_iterations": ITERATIONS, "knobs": {}, "space": describe(task.space),
    }  # fmt: skip
    place = FolderStorage(str(folder)).child(name)
    place.put("sweep.json", json.dumps(spec | options.pop("spec", {})).encode())
    simulate(chosen.tune_config(asked, knobs_of(chosen, {})), asked, outcome, places=2, storage=place, **options)
    return read(name, str(folder))


def recorded(folder: Path, samples: int = 12, seeds: int = 3) -> CurveTable:
    """A table of so many configurations and seeds."""
    found = [sweep(folder, f"seed-{each}", samples=samples, trial_seed=each) for each in range(seeds)]
    return record(found, TASK.space, TASK.mutable)[0]


def with_test_part(trial: str, config: dict[str, Any], iteration: int, state: Any) -> Step:
    """The same with a metric of a test part, worse by a quarter."""
    step = noisy(trial, config, iteration, state)
    return Step({**step.metrics, "test_loss": step.metrics["loss"] + 0.25}, 1.0)


def verification(folder: Path, of: str, top: int = 3, seeds: int = 4, outcome: Any = with_test_part) -> SweepResults:
    """The sweep of `raysweep verify`, simulated."""
    flags = Flags(task="quadratic", name=f"{of}-verify", storage=str(folder), max_iterations=ITERATIONS)
    asked = settle(flags, "verify", verify.task_of(flags), ())
    config = verify.tune_config(asked, knobs_of(verify.STRATEGY, {"of": of, "top": top, "seeds": seeds}))
    place = FolderStorage(str(folder)).child(asked.name)
    spec = read(of, str(folder)).spec | {"name": asked.name, "strategy": "verify"}
    place.put("sweep.json", json.dumps(spec).encode())
    simulate(config, asked, outcome, places=2, storage=place)
    return read(asked.name, str(folder))
