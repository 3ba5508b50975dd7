"""Sweeps on the simulated clock, as a driver leaves them in a storage: journal and sweep.json."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ray import tune

from raysweep.history import results
from raysweep.history.journal import Journal
from raysweep.history.results import SweepResults
from raysweep.loop.assemble import objective_of
from raysweep.loop.memory_storage import MemoryJournal, MemoryStorage
from raysweep.loop.simulation import Fault, Step, simulate
from raysweep.spec.flags import Flags
from raysweep.spec.space import describe
from raysweep.spec.sweep import Sweep, knobs_of, strategy
from raysweep.spec.task import Task
from raysweep.storage import Storage
from raysweep.values import TIME_THIS_ITER_S, TIME_TOTAL_S
from tests.loop.sweeps import draw

SPACE = {
    "lr": tune.loguniform(1e-4, 1.0),
    "momentum": tune.uniform(0.5, 0.99),
    "width": tune.randint(8, 129),
    "activation": tune.choice(["relu", "gelu", "<script>alert(1)</script>"]),
}
TASK = Task("digits", lambda config: None, SPACE, "accuracy", "max", 27, mutable=("lr", "momentum"))


def curve(trial: str, config: dict[str, Any], iteration: int, state: Any) -> Step:
    """A learning curve with a best learning rate near 0.03 and a little noise; momentum helps, width hardly."""
    done = (state or 0.0) + math.exp(-((math.log10(config["lr"]) + 1.5) ** 2)) * (0.5 + config["momentum"])
    top = 0.97 - 0.04 * abs(math.log10(config["lr"]) + 1.5) - 0.02 * (config["activation"] != "gelu")
    accuracy = top * (1 - math.exp(-done / 4)) + 0.01 * (draw(trial, iteration) - 0.5)
    size = config["width"] * (1 + 9 * config["momentum"])
    return Step({"accuracy": accuracy, "size": size}, 2 + 3 * draw(trial) + config["width"] / 100, done)


def simulated(
    name: str,
    samples: int = 20,
    max_iterations: int = 27,
    *,
    places: int = 4,
    faults: Mapping[tuple[str, int], Fault] | None = None,
    outcome: Any = curve,
    storage: Storage | None = None,
    knobs: dict[str, Any] | None = None,
    sweep_name: str = "digits-run",
    seed: int = 0,
    **flags: Any,
) -> SweepResults:
    """The results of a simulated sweep, read back from its storage."""
    place = storage or MemoryStorage()
    sweep = Sweep(sweep_name, name, TASK, SPACE, "accuracy", "max", samples, max_iterations, (), seed, "unused")
    chosen = strategy(name)
    own = knobs_of(chosen, knobs or {})
    config = chosen.tune_config(sweep, own)
    simulate(config, sweep, outcome, places=places, storage=place, faults=faults, flags=Flags(**flags))
    objective = objective_of(config.search_alg, sweep)
    spec = spec_of(
        name, name=sweep_name, metrics=objective.metrics, modes=objective.modes, seed=seed, samples=samples,
        max_iterations=max_iterations, knobs=dataclasses.asdict(own), flags=dataclasses.asdict(Flags(**flags)),
    )  # fmt: skip
    place.put("sweep.json", json.dumps(spec).encode())
    found = results.find(place)
    assert found is not None
    return found


def spec_of(strategy_name: str, **more: Any) -> dict[str, Any]:
    """A sweep.json."""
    return {
        "name": "digits-run", "task": "digits", "strategy": strategy_name, "metrics": ["accuracy"], "modes": ["max"],
        "seed": 0, "flags": dataclasses.asdict(Flags()), "knobs": {}, "samples": 20, "max_iterations": 27,
        "space": describe(SPACE), "code": "0123456789abcdef", "versions": {"ray": "2.60.0", "optuna": "5.0.0"},
        "python": "3.11.7", **more,
    }  # fmt: skip


def large(place: Storage, trials: int, iterations: int, parallel: int = 32) -> SweepResults:
    """A sweep of so many trials that all ran to their end, written as a driver does; to simulate it takes minutes."""
    random = np.random.default_rng(0)
    clock = [0.0]
    journal = MemoryJournal(place, 1, 0, lambda: clock[0]) if isinstance(place, MemoryStorage) else Journal(place, 1, 0)
    journal.append("start", term=1, resumed=False)
    for begin in range(0, trials, parallel):
        batch = {n: _drawn(random) for n in range(begin, min(begin + parallel, trials))}
        for n, config in batch.items():
            journal.append("suggest", trial=f"{n:05d}", config=config)
        for iteration in range(1, iterations + 1):
            clock[0] += 1.0
            times = {TIME_THIS_ITER_S: 1.0, TIME_TOTAL_S: float(iteration)}
            for n, config in batch.items():
                step = curve(f"{n:05d}", config, iteration, float(iteration - 1))
                told = {"iteration": iteration, "metrics": step.metrics | times, "node": f"node-{n % 4}"}
                journal.append("result", trial=f"{n:05d}", checkpoint=None, **told)
        for n in batch:
            journal.append("complete", trial=f"{n:05d}", status="finished")
    journal.append("end", status="ended")
    journal.close()
    place.put("sweep.json", json.dumps(spec_of("random_search", samples=trials, max_iterations=iterations)).encode())
    found = results.find(place)
    assert found is not None
    return found


def _drawn(random: np.random.Generator) -> dict[str, Any]:
    return {
        "lr": float(10 ** random.uniform(-4, 0)), "momentum": float(random.uniform(0.5, 0.99)),
        "width": int(random.integers(8, 129)), "activation": ("relu", "gelu")[int(random.integers(2))],
    }  # fmt: skip
