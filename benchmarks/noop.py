"""Milliseconds per trial of a sweep whose trials do nothing: plain Ray Tune, raysweep, and Optuna alone.

Each trial reports one number. The arms are run in turns in one process (A B C A B C …), plain Tune and raysweep in the
same Ray, Optuna with two processes and a journal file. Printed: ms per trial of every turn, the median and the spread
of the ratio to raysweep.

    python benchmarks/noop.py --trials 20 --turns 3
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import optuna
from ray import tune

import raysweep
from raysweep import local_ray

PROCESSES = 2


def plain_trial(config: dict[str, Any]) -> None:
    """A trial as Ray's documentation writes it."""
    tune.report({"loss": config["x"] ** 2})


def our_trial(config: dict[str, Any]) -> None:
    """The same trial."""
    raysweep.report({"loss": config["x"] ** 2})


def plain_tune(trials: int, folder: Path) -> None:
    """Ray Tune with its defaults."""
    tune.Tuner(
        plain_trial,
        param_space={"x": tune.uniform(-1.0, 1.0)},
        tune_config=tune.TuneConfig(metric="loss", mode="min", num_samples=trials),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    ).fit()


def ours(trials: int, folder: Path) -> None:
    """The same as a sweep: random search with its defaults."""
    space = {"x": tune.uniform(-1.0, 1.0)}
    raysweep.run(
        "random_search", our_trial, space, metric="loss", mode="min", samples=trials, max_iterations=1, storage=folder
    )


def optuna_worker(path: str, trials: int) -> None:
    """One of Optuna's processes."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))
    sampler = optuna.samplers.RandomSampler()
    study = optuna.create_study(study_name="noop", storage=storage, sampler=sampler, load_if_exists=True)
    study.optimize(lambda trial: trial.suggest_float("x", -1.0, 1.0) ** 2, n_trials=trials)


def optuna_alone(trials: int, folder: Path) -> None:
    """Optuna with two processes that share a journal file, start of the processes included."""
    spawn = multiprocessing.get_context("spawn")
    share = [trials // PROCESSES + (i < trials % PROCESSES) for i in range(PROCESSES)]
    workers = [spawn.Process(target=optuna_worker, args=(str(folder / "journal.log"), n)) for n in share]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


ARMS: dict[str, Callable[[int, Path], None]] = {
    "plain Ray Tune": plain_tune,
    "raysweep": ours,
    "Optuna, 2 processes": optuna_alone,
}


def measure(arm: Callable[[int, Path], None], trials: int) -> float:
    """Milliseconds per trial of one turn."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        arm(trials, Path(folder))
        return (time.perf_counter() - began) * 1000 / trials


@click.command()
@click.option("--trials", default=20, show_default=True, help="Trials of each arm and turn.")
@click.option("--turns", default=3, show_default=True, help="How often each arm is run.")
def main(trials: int, turns: int) -> None:
    """Print milliseconds per trial of each arm."""
    local_ray.start()
    times: dict[str, list[float]] = {name: [] for name in ARMS}
    for _ in range(turns):
        for name, arm in ARMS.items():
            times[name].append(measure(arm, trials))
    click.echo(f"\nno-op trials, {trials} a turn, {turns} turns")
    for name, values in times.items():
        ratios = [value / mine for value, mine in zip(values, times["raysweep"], strict=True)]
        shown = " ".join(f"{value:.0f}" for value in values)
        click.echo(
            f"{name:20} {statistics.median(values):7.0f} ms a trial ({shown})"
            f"   x raysweep {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
