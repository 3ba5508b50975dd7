"""What the loop costs beside what Ray's schedulers and the searchers cost: sweeps on the simulation, nothing trains.

    python benchmarks/loop.py                                                        every strategy
    python benchmarks/loop.py --strategies asha,random_search --trials 10000 --places 1000

The journal is in a folder, as a sweep's is; where trials have to save states, both are in memory. Printed for each
strategy: seconds, and results a second; then the loop's thread's CPU seconds, in the scheduler, in the searcher, and in
all the rest, which is ours: loop, controller, journal, state and the simulation itself, also in microseconds a result.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
import optuna
from ray import tune
from ray.tune.schedulers import FIFOScheduler

from raysweep.loop.assemble import SYNCHRONOUS
from raysweep.loop.random_grid_search import Variants
from raysweep.loop.simulation import Step, simulate
from raysweep.spec.sweep import Sweep, knobs_of, strategies, strategy
from raysweep.spec.task import load
from raysweep.storage import FolderStorage

# Whose models take seconds: at most so many trials, and so many at the same time, as else all are drawn at random.
MOST, MOST_PLACES = {"gp": 30, "gp_asha": 30, "pb2": 100}, 4
SCHEDULER = (
    *("on_trial_add", "on_trial_result", "on_trial_complete", "on_trial_remove", "on_trial_error"),
    "choose_trial_to_run",
)
SEARCHER = ("suggest", "on_trial_result", "on_trial_complete")
HEAD = f"{'':20} trials places results seconds results/s   CPU: scheduler searcher  ours  µs a result"


@dataclass
class Stopwatch:
    """Adds up the CPU seconds that calls of this thread take, those that they make themselves included once."""

    seconds: float = 0.0
    inside: int = 0

    def watch(self, thing: Any, names: tuple[str, ...]) -> None:
        """Measures these methods from now on."""
        for name in names:
            setattr(thing, name, self._timed(getattr(thing, name)))

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            self.inside += 1
            began = time.thread_time()
            try:
                return call(*arguments, **options)
            finally:
                self.inside -= 1
                self.seconds += 0.0 if self.inside else time.thread_time() - began

        return timed


def asked(name: str, trials: int, iterations: int) -> tuple[Sweep, tune.TuneConfig]:
    """The sweep, and what its strategy makes of it; a grid of about so many trials has three paces."""
    task, chosen = load("quadratic"), strategy(name)
    samples = 1 if name == "grid" else trials
    sweep = Sweep("loop", name, task, task.space, "loss", "min", samples, iterations, (), 0, "unused")
    knobs = {"resolution": max(2, round((trials / 3) ** 0.5))} if name == "grid" else {}
    config = chosen.tune_config(sweep, knobs_of(chosen, knobs))
    config.search_alg = config.search_alg or Variants(sweep.space, sweep.points, sweep.seed)
    config.scheduler = config.scheduler or FIFOScheduler()
    return sweep, config


def run(name: str, trials: int, places: int, iterations: int) -> str:
    """Simulates one sweep, and says what it took."""
    sweep, config = asked(name, trials, iterations)
    saves = isinstance(config.scheduler, SYNCHRONOUS)
    scheduler, searcher = Stopwatch(), Stopwatch()
    scheduler.watch(config.scheduler, SCHEDULER)
    searcher.watch(config.search_alg, SEARCHER)

    def outcome(trial: str, config: dict[str, Any], iteration: int, state: Any) -> Step:
        loss = (config["x"] - 1) ** 2 + (config["y"] + 2) ** 2 + config["pace"] ** iteration
        return Step({"loss": loss}, 0.5 + config["pace"], iteration if saves else None)

    with tempfile.TemporaryDirectory() as folder:
        began, cpu = time.perf_counter(), time.thread_time()
        state = simulate(config, sweep, outcome, places=places, storage=None if saves else FolderStorage(folder))
        seconds, cpu = time.perf_counter() - began, time.thread_time() - cpu
    results = sum(len(trial.results) for trial in state.trials.values())
    ours = cpu - scheduler.seconds - searcher.seconds
    return (
        f"{name:20} {len(state.trials):6} {places:6} {results:7} {seconds:7.2f} {results / seconds:9.0f}"
        f" {scheduler.seconds:16.2f} {searcher.seconds:8.2f} {ours:5.2f} {ours / results * 1e6:12.0f}"
    )


@click.command()
@click.option("--strategies", "names", default=",".join(strategies()), help="Which, with commas; all if not given.")
@click.option("--trials", default=1000, show_default=True, help="Of each sweep; fewer where a model takes seconds.")
@click.option("--places", default=100, show_default=True, help="Trials at the same time.")
@click.option("--iterations", default=10, show_default=True, help="Of a complete trial.")
def main(names: str, trials: int, places: int, iterations: int) -> None:
    """Print seconds, results a second and whose they are, for each strategy."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")  # of the models
    click.echo(HEAD)
    for name in names.split(","):
        few = name in MOST
        click.echo(run(name, min(trials, MOST[name]) if few else trials, MOST_PLACES if few else places, iterations))


if __name__ == "__main__":
    main()
