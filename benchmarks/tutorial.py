"""Seconds of a sweep as the tutorial writes it, plain Ray Tune with a DataLoader, and as this project runs it.

Both arms train the same configurations of the same network on the same pictures for the same epochs, and
measure validation and test accuracy after each. They take turns in one Ray (A B A B ...), and report the CPU
seconds of their epochs. Ours also saves a checkpoint every epoch, and loads the data within the time measured.
With --gpus-per-trial both arms train on a GPU, where their trials share one.

Plain: every trial reads Fashion-MNIST with torchvision, a DataLoader turns its pictures into tensors one by
one, Ray's defaults for loggers and actors.
Ours: `raysweep.run` of tasks/mnist.py.

    python benchmarks/tutorial.py --data /usr/share/datasets/fashion-mnist
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from ray import tune
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import FashionMNIST
from torchvision.datasets.utils import extract_archive
from torchvision.transforms import ToTensor

import raysweep
from raysweep.driver import local_ray
from tasks import _mnist_files, mnist
from tasks._tensors import device

CPU = "cpu_s"
ACCURACIES = ["val_accuracy", "test_accuracy"]


def loaders(root: str) -> tuple[DataLoader[Any], DataLoader[Any], DataLoader[Any]]:
    """Training, validation and test part: the tutorial's way to read them, the task's way to divide them."""
    whole = FashionMNIST(root, train=True, transform=ToTensor())
    test = FashionMNIST(root, train=False, transform=ToTensor())
    train, val = train_test_split(
        np.arange(len(whole)), test_size=1 / 12, stratify=whole.targets.numpy(), random_state=0
    )
    return (
        DataLoader(Subset(whole, train.tolist()), batch_size=64, shuffle=True),
        DataLoader(Subset(whole, val.tolist()), batch_size=64),
        DataLoader(test, batch_size=64),
    )


def network(l1: int, l2: int) -> nn.Module:
    """784-l1-l2-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, l1), nn.ReLU(), nn.Linear(l1, l2), nn.ReLU(), nn.Linear(l2, 10))


def accuracy(model: nn.Module, loader: DataLoader[Any]) -> float:
    """Share of right answers."""
    place = device()
    with torch.no_grad():
        right = sum(int((model(x.to(place)).argmax(1) == y.to(place)).sum()) for x, y in loader)
    return right / len(loader.dataset)  # type: ignore[arg-type]


def tutorial_trial(config: dict[str, Any]) -> None:
    """A trial of the tutorial."""
    torch.manual_seed(0)
    train, val, test = loaders(config["root"])
    point = config["point"]
    model = network(point["l1"], point["l2"]).to(device())
    optimizer = torch.optim.SGD(model.parameters(), lr=point["lr"], momentum=point["momentum"])
    for _ in range(config["epochs"]):
        began = time.process_time()
        for images, labels in train:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images.to(device())), labels.to(device()))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        reached = {"val_accuracy": accuracy(model, val), "test_accuracy": accuracy(model, test)}
        tune.report({**reached, CPU: time.process_time() - began})


def our_trial(config: dict[str, Any], data: Any) -> None:
    """A trial of the project's, which also reports what its epochs cost."""
    report, began = raysweep.report, [time.process_time()]

    def measured(metrics: dict[str, Any], state: Any = None) -> None:
        report({**metrics, CPU: time.process_time() - began.pop()}, state)
        began.append(time.process_time())

    raysweep.report = measured
    try:
        mnist.train(config, data)
    finally:
        raysweep.report = report


def plain(points: list[dict[str, Any]], epochs: int, gpus: float, root: Path, folder: Path) -> pd.DataFrame:
    """Ray Tune with its defaults; one row a trial, its best epoch."""
    space = {"point": tune.grid_search(points), "epochs": epochs, "root": str(root)}
    run_config = tune.RunConfig(storage_path=str(folder), verbose=0)
    trial = tune.with_resources(tutorial_trial, {"cpu": 1, "gpu": gpus})
    found = tune.Tuner(trial, param_space=space, run_config=run_config).fit()
    if found.errors:
        raise found.errors[0]
    tables = [result.metrics_dataframe for result in found]
    best = [table.loc[table["val_accuracy"].idxmax(), ACCURACIES] for table in tables]
    return pd.DataFrame(best).assign(**{CPU: [table[CPU].mean() for table in tables]})


def ours(points: list[dict[str, Any]], epochs: int, gpus: float, root: Path, folder: Path) -> pd.DataFrame:
    """The same as a sweep: random search whose every draw is given."""
    found = raysweep.run(
        "random_search",
        our_trial,
        mnist.SPACE,
        metric=mnist.METRIC,
        mode=mnist.MODE,
        data=mnist.load_data(root),
        points=points,
        samples=len(points),
        max_iterations=epochs,
        gpus_per_trial=gpus,
        storage=folder,
        name="mnist",
    )
    epochs_of = [[r.metrics[CPU] for r in trial.results.values()] for trial in found.state.trials.values()]
    return found.table[ACCURACIES].assign(**{CPU: [statistics.mean(costs) for costs in epochs_of]})


def torchvision_layout(data: Path, folder: Path) -> Path:
    """The four files where torchvision's FashionMNIST looks for them; made once, outside of what is timed."""
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in _mnist_files.find(data):
        if path.suffix == ".gz":
            extract_archive(str(path), str(raw))
        else:
            (raw / path.name).symlink_to(path.absolute())
    return folder


def timed(arm: Callable[..., pd.DataFrame], *arguments: Any) -> tuple[float, float]:
    """Seconds of one turn of an arm, and CPU seconds of an epoch, which a busy machine does not change much.

    Says what its trials reached, so that less work would show.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        table = arm(*arguments, Path(folder))
        seconds = time.perf_counter() - started
    reached = ", ".join(f"{name} {table[name].mean():.4f} (best {table[name].max():.4f})" for name in ACCURACIES)
    epoch = table[CPU].mean()
    click.echo(f"{arm.__name__:>6}: {seconds:7.1f} s, {epoch:.2f} CPU s an epoch   {len(table)} trials, mean {reached}")
    return seconds, epoch


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True, help="Fashion-MNIST's idx files.")
@click.option("--trials", default=4, show_default=True, help="Trials of one turn.")
@click.option("--epochs", default=2, show_default=True, help="Epochs of one trial.")
@click.option("--pairs", default=3, show_default=True, help="Turns of each arm.")
@click.option("--gpus-per-trial", "gpus", default=0.0, show_default=True, help="The share of a GPU.")
def main(data: Path, trials: int, epochs: int, pairs: int, gpus: float) -> None:
    """Runs the arms in turns and prints seconds, accuracies and the ratio."""
    local_ray.start()
    random = np.random.RandomState(0)
    points = [{key: domain.sample(random_state=random) for key, domain in mnist.SPACE.items()} for _ in range(trials)]
    ratios: dict[str, list[float]] = {"wall time": [], "CPU of an epoch": []}
    with tempfile.TemporaryDirectory() as folder:
        root = torchvision_layout(data, Path(folder))
        for pair in range(1, pairs + 1):
            theirs, own = timed(plain, points, epochs, gpus, root), timed(ours, points, epochs, gpus, data)
            for values, one, other in zip(ratios.values(), theirs, own, strict=True):
                values.append(one / other)
            click.echo(f"pair {pair}: plain / ours = " + ", ".join(f"{v[-1]:.2f} {name}" for name, v in ratios.items()))
    for name, values in ratios.items():
        median = statistics.median(values)
        click.echo(f"plain / ours, {name}: median {median:.2f} ({min(values):.2f} to {max(values):.2f}), {pairs} pairs")


if __name__ == "__main__":
    main()
