"""What population based training costs beside random search: wall seconds on MNIST data at equal epochs.

Both arms train the same first configurations of the same network, save a checkpoint each epoch, and take turns in one
Ray (A B A B ...). The sizes of the layers are fixed, so that an epoch costs the same whatever an exploit changes. An
exploit moves a trial to its donor's epoch, so the epochs that were trained are counted in the journal, and the ratio is
that of the seconds an epoch. Both arms have the same places; what PBT adds is its pauses, exploits and decisions.

    python benchmarks/population.py --data /usr/share/datasets/fashion-mnist
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

import raysweep
from raysweep.driver import local_ray
from raysweep.history import journal
from raysweep.storage import open_storage
from tasks import mnist

SIZES = {"l1": 256, "l2": 64}


def first_points(trials: int) -> list[dict[str, Any]]:
    """Learning rates from poor to good, so that the worst has something to copy."""
    return [{"lr": float(lr), "momentum": 0.9, **SIZES} for lr in np.geomspace(1e-4, 0.05, trials)]


def sweep(strategy: str, data: Any, trials: int, epochs: int, folder: str) -> tuple[float, int, int, float]:
    """Seconds of a whole sweep, epochs trained, exploits, and the best accuracy."""
    began = time.perf_counter()
    found = raysweep.run(
        strategy, mnist.train, mnist.SPACE, metric=mnist.METRIC, mode=mnist.MODE, data=data, mutable=mnist.MUTABLE,
        points=first_points(trials), samples=trials, max_iterations=epochs, storage=folder, name="mnist",
    )  # fmt: skip
    seconds = time.perf_counter() - began
    events = [event["type"] for event in journal.read(open_storage(found.url))]
    return seconds, events.count("result"), events.count("exploit"), float(found.table[mnist.METRIC].max())


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of the idx files.")
@click.option("--turns", default=4, show_default=True, help="How often each arm is run.")
@click.option("--trials", default=4, show_default=True)
@click.option("--epochs", default=6, show_default=True, help="Of each trial.")
def main(data: Path, turns: int, trials: int, epochs: int) -> None:
    """Print seconds an epoch of PBT and random search, in turns, and their ratio."""
    local_ray.start()
    loaded = mnist.load_data(data)
    ratios = []
    for turn in range(turns + 1):
        each = {}
        for strategy in ("random_search", "pbt") if turn % 2 else ("pbt", "random_search"):
            with tempfile.TemporaryDirectory() as folder:
                seconds, done, exploits, best = sweep(strategy, loaded, trials, epochs, folder)
            each[strategy] = seconds / done
            name = f"{strategy:14}" if turn else f"{strategy:14} (warm-up)"
            click.echo(f"{name} {seconds:6.2f} s, {done} epochs, {exploits} exploits, best accuracy {best:.4f}")
        if turn:
            ratios.append(each["pbt"] / each["random_search"])
    click.echo(f"seconds an epoch, PBT to random search: {statistics.median(ratios):.3f}", nl=False)
    click.echo(f" ({min(ratios):.3f} to {max(ratios):.3f}), {turns} pairs")


if __name__ == "__main__":
    main()
