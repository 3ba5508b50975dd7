"""Small sweeps on the simulation, for the tests of the loop."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from ray import tune

from raysweep.history import journal
from raysweep.history.sweep_state import SweepState
from raysweep.loop.memory_storage import MemoryStorage
from raysweep.loop.simulation import Step, simulate
from raysweep.spec.flags import Flags
from raysweep.spec.sweep import Sweep, knobs_of, strategy
from raysweep.spec.task import Task

SPACE = {"x": tune.uniform(-1.0, 1.0), "width": tune.choice([1, 2, 3])}
TASK = Task("bowl", lambda config: None, SPACE, "loss", "min", 9, mutable=("x",))
# What makes a strategy do its own thing in a few trials.
KNOBS: dict[str, dict[str, Any]] = {
    "grid": {"resolution": 2},
    "gp": {"startup_trials": 3},
    "gp_asha": {"startup_trials": 2},
    "tpe": {"startup_trials": 3},
    "tpe_asha": {"startup_trials": 3},
    "tpe_hyperband": {"startup_trials": 3},
    "multi_objective": {"startup_trials": 3},
    "pbt": {"quantile_fraction": 0.4},
    "pb2": {"quantile_fraction": 0.4},
}


def sweep_of(name: str, samples: int = 6, max_iterations: int = 9, seed: int = 0) -> Sweep:
    """A sweep of that strategy."""
    samples = 1 if name == "grid" else samples
    return Sweep("s", name, TASK, SPACE, "loss", "min", samples, max_iterations, (), seed, "unused")


def config_of(sweep: Sweep, **knobs: Any) -> tune.TuneConfig:
    """The TuneConfig of the strategy's file in jobs/."""
    chosen = strategy(sweep.strategy)
    return chosen.tune_config(sweep, knobs_of(chosen, KNOBS.get(sweep.strategy, {}) | knobs))


def draw(*key: Any) -> float:
    """A number between 0 and 1 that depends on nothing but the key."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4], "big") / 2**32


def bowl(trial: str, config: dict[str, Any], iteration: int, state: Any) -> Step:
    """Comes down to the bottom with each iteration, at the pace of what the trial or its donor was before."""
    height = (state or {"height": 1.0})["height"] * (0.5 + 0.4 * draw(config["x"], iteration))
    return Step({"loss": config["x"] ** 2 + 0.1 * config["width"] + height}, 1.0, {"height": height})


def run(name: str, outcome: Any = bowl, *, samples: int = 6, max_iterations: int = 9, **options: Any) -> SweepState:
    """One simulated sweep from its beginning, or from what its storage has."""
    flags = {key: options.pop(key) for key in list(options) if key in Flags.__dataclass_fields__ and key != "storage"}
    sweep = sweep_of(name, samples, max_iterations)
    config = config_of(sweep, **options.pop("knobs", {}))
    return simulate(config, sweep, outcome, flags=Flags(**flags), **options)


class Killed(BaseException):
    """The driver is gone, at once: nothing catches it."""


@dataclass(frozen=True)
class Mortal(MemoryStorage):
    """A storage whose driver is killed when it has written so many events."""

    lives: list[float] = field(default_factory=list)

    def append(self, key: str, data: bytes) -> None:
        if self.lives[0] <= 0:
            raise Killed
        self.lives[0] -= 1
        super().append(key, data)


def killed_after(events: int, name: str, *arguments: Any, **options: Any) -> Mortal:
    """The storage of a sweep whose driver was killed when its journal had so many events."""
    storage = Mortal(lives=[events])
    try:
        run(name, *arguments, storage=storage, **options)
    except Killed:
        storage.lives[0] = float("inf")
        return storage
    raise AssertionError(f"the sweep had fewer than {events} events")


def events_of(storage: MemoryStorage) -> list[dict[str, Any]]:
    """A sweep's journal."""
    return journal.read(storage)


def table(state: SweepState) -> dict[str, Any]:
    """What has become of the trials, and what they reported when."""
    return {
        trial.id: (trial.status, trial.config, {i: result.metrics for i, result in sorted(trial.results.items())})
        for trial in state.trials.values()
    }
