"""CPU seconds of one epoch of the tutorial's network on one thread, by part: the tutorial's way and this project's.

Without Ray and in one process, so that nothing but the two training loops is compared; they take turns. A part of an
epoch is run and scaled up. What cannot be saved is `network`: the tutorial's loop with its batches already made.

    python benchmarks/epoch.py --data /usr/share/datasets/fashion-mnist
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from tutorial import loaders, network, torchvision_layout

from tasks import mnist
from tasks._tensors import accuracy, batches, tensors

STEPS = 200  # of the 860 of an epoch


def train(model: nn.Module, optimizer: torch.optim.Optimizer, pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """CPU seconds of STEPS steps of a training loop, scaled to an epoch."""
    began = time.process_time()
    for images, labels in pairs:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return (time.process_time() - began) / STEPS * 860


def turn(l1: int, loader: Any, data: Any) -> dict[str, float]:
    """One turn of each way."""
    model = network(l1, 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
    made = list(itertools.islice(loader, STEPS))
    costs = {"network": train(model, optimizer, made)}
    costs["plain"] = train(model, optimizer, itertools.islice(loader, STEPS))
    own = mnist._network({"l1": l1, "l2": 64})
    fused = torch.optim.SGD(own.parameters(), lr=0.05, momentum=0.5, fused=True)
    images, labels = tensors(data.train)
    order = batches(len(labels), mnist.BATCH_SIZE, 0, 1)[:STEPS]
    costs["ours"] = train(own, fused, ((images[batch], labels[batch]) for batch in order))
    began = time.process_time()
    accuracy(own, *tensors(data.val))
    accuracy(own, *tensors(data.test))
    return {**costs, "our evaluation": time.process_time() - began}


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True, help="Fashion-MNIST's idx files.")
@click.option("--turns", default=4, show_default=True, help="Turns of each way.")
def main(data: Path, turns: int) -> None:
    """Runs the two ways in turns, for both sizes of the first layer."""
    torch.set_num_threads(1)
    parts = mnist.load_data(data)
    with tempfile.TemporaryDirectory() as folder:
        loader, _, _ = loaders(str(torchvision_layout(data, Path(folder))))
        for l1 in (256, 512):
            costs = [turn(l1, loader, parts) for _ in range(turns)]
            for name in costs[0]:
                values = [cost[name] for cost in costs]
                shown = " ".join(f"{value:.2f}" for value in values)
                click.echo(f"l1={l1} {name:15} median {statistics.median(values):.2f} CPU s an epoch ({shown})")
            ratios = [cost["plain"] / cost["ours"] for cost in costs]
            shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            click.echo(f"l1={l1} plain / ours, training: {shown}")


if __name__ == "__main__":
    main()
