"""Sweeps on the simulated clock, as a driver leaves them in a storage: journal and sweep.json."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from ray import tune

from raysweep.history import results
from raysweep.history.results import SweepResults
from raysweep.loop.assemble import objective_of
from raysweep.loop.memory_storage import MemoryStorage
from raysweep.loop.simulation import Fault, Step, simulate
from raysweep.spec.flags import Flags
from raysweep.spec.space import describe
from raysweep.spec.sweep import Sweep, knobs_of, strategy
from raysweep.spec.task import Task
from raysweep.storage import Storage
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
    spec = {
        "name": sweep_name, "task": "digits", "strategy": name, "metrics": objective.metrics, "modes": objective.modes,
        "seed": seed, "flags": dataclasses.asdict(Flags(**flags)), "knobs": dataclasses.asdict(own), "samples": samples,
        "max_iterations": max_iterations, "space": describe(SPACE), "code": "0123456789abcdef",
        "versions": {"ray": "2.60.0", "optuna": "5.0.0"}, "python": "3.11.7",
    }  # fmt: skip
    place.put("sweep.json", json.dumps(spec).encode())
    found = results.find(place)
    assert found is not None
    return found
