"""Trial-epochs a second on one GPU, by how many trials share it: the tutorial's network on Fashion-MNIST.

Each count is a sweep of as many trials, each with its share of the GPU, that all train the same configuration. Counted
are the epochs that end while all of them train: from the last trial's first result to the first trial's last one. The
counts take turns (1 2 5 10 20 1 2 5 ...), so that a busy machine is busy for all; their accuracies must agree.

With --mps, CUDA's Multi-Process Service is started first, for this run alone: kernels of several processes then run at
the same time instead of by turns (https://docs.nvidia.com/deploy/mps).

    python benchmarks/gpu.py --data /usr/share/datasets/fashion-mnist
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import raysweep
from raysweep.driver import local_ray
from tasks import mnist
from tasks._data import Data

POINT = {"lr": 0.05, "momentum": 0.5, "l1": 512, "l2": 64, "seed": 0}
SAME = 0.01  # a GPU adds in any order: two trainings of one configuration differ by less than this
MPS = "nvidia-cuda-mps-control"


def card() -> str | None:
    """Name, memory and driver of the GPU here, as nvidia-smi says them; None without one."""
    asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    if shutil.which(asked[0]) is None:
        return None
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


@dataclass(frozen=True)
class Turn:
    """One sweep: trial-epochs a second, and the mean accuracy of its trials on the validation part."""

    rate: float
    accuracy: float


def together(trials: int, folder: Path) -> Callable[[dict[str, Any], Data], None]:
    """The task's training, which begins when so many processes have come: they take seconds to start, one by one."""

    def train(config: dict[str, Any], data: Data) -> None:
        (folder / str(os.getpid())).touch()
        while len(list(folder.iterdir())) < trials:
            time.sleep(0.05)
        mnist.train(config, data)

    return train


def turn(trials: int, epochs: int, data: Data) -> Turn:
    """A sweep of so many trials, all at the same time."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as here:
        found = raysweep.run(
            "random_search",
            together(trials, Path(here)),
            mnist.SPACE | {"seed": 0},
            metric=mnist.METRIC,
            mode=mnist.MODE,
            data=data,
            points=[POINT] * trials,
            samples=trials,
            max_iterations=epochs,
            gpus_per_trial=1 / trials,
            cpus_per_trial=min(1.0, local_ray.cpus() / trials),
            storage=folder,
            name="gpu",
        )
    times = [[trial.results[epoch].time for epoch in range(1, epochs + 1)] for trial in found.state.trials.values()]
    began, ended = max(own[0] for own in times), min(own[-1] for own in times)
    if began >= ended:
        raise click.ClickException(f"{trials} trials were never all at work: give more --epochs than {epochs}")
    counted = sum(began < each <= ended for own in times for each in own)
    return Turn(counted / (ended - began), statistics.mean(found.table[mnist.METRIC]))


@contextlib.contextmanager
def multi_process_service() -> Iterator[None]:
    """CUDA's service for this process and its children; at the end it says who used it, and goes."""
    with tempfile.TemporaryDirectory(prefix="mps-") as folder:
        own = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        with local_ray.environment(own):
            subprocess.run([MPS, "-d"], check=True)
            try:
                yield
                log = Path(folder, "control.log").read_text()
                click.echo(f"MPS: {log.count('NEW CLIENT')} clients")
            finally:
                subprocess.run([MPS], input="quit\n", text=True, check=False, capture_output=True)


def measure(counts: tuple[int, ...], epochs: int, rounds: int, data: Path | None) -> None:
    """All counts, in turns, and their table."""
    parts, turns = mnist.load_data(data), {count: list[Turn]() for count in counts}
    for number in range(1, rounds + 1):
        for count, own in turns.items():
            own.append(turn(count, epochs, parts))
            shown = f"{own[-1].rate:.2f} trial-epochs a second, accuracy {own[-1].accuracy:.4f}"
            click.echo(f"round {number}, {count} trials: {shown}", err=True)
    reached = {each.accuracy for own in turns.values() for each in own}
    if max(reached) - min(reached) > SAME:
        raise click.ClickException(f"unequal work: the mean accuracies reach from {min(reached)} to {max(reached)}")
    base = [each.rate for each in next(iter(turns.values()))]
    click.echo("| trials on the GPU | trial-epochs a second | seconds of an epoch | to the first row (least to most) |")
    click.echo("|---|---|---|---|")
    for count, own in turns.items():
        rate, ratios = statistics.median(t.rate for t in own), [t.rate / b for t, b in zip(own, base, strict=True)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        click.echo(f"| {count} | {rate:.2f} | {count / rate:.2f} | {ratio} |")


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="Idx files. Default: MNIST, downloaded.")
@click.option("--trials", "counts", multiple=True, type=int, default=(1, 2, 5, 10, 20), show_default=True)
@click.option("--epochs", default=12, show_default=True, help="Epochs of one trial.")
@click.option("--rounds", default=3, show_default=True, help="Turns of each count.")
@click.option("--mps", is_flag=True, help="With CUDA's Multi-Process Service.")
def main(data: Path | None, counts: tuple[int, ...], epochs: int, rounds: int, mps: bool) -> None:
    """Prints the card's name and the table."""
    if (found := card()) is None:
        click.echo("no GPU here: nothing is measured")
        return
    if mps and shutil.which(MPS) is None:
        click.echo(f"no MPS here: {MPS} is not installed")
        return
    click.echo(f"{found}; {os.cpu_count()} CPUs{', MPS' if mps else ''}")
    with multi_process_service() if mps else contextlib.nullcontext():
        local_ray.start()
        measure(counts, epochs, rounds, data)


if __name__ == "__main__":
    main()
