"""Records the shipped tables of learning curves: random configurations of a task, each trained with several seeds.

    python benchmarks/record_tables.py digits --configurations 200 --seeds 5
    python benchmarks/record_tables.py fashion_mnist --configurations 64 --seeds 3 --data DIR

All is one sweep on this machine, which goes on if it was interrupted: all configurations with the first seed, then with
the next, so that the seconds of a configuration are taken at several times. Nothing else should run meanwhile.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
import numpy as np
from ray import tune

import raysweep
from raysweep.spec.task import Task, load
from raysweep.study.record import record
from raysweep.study.table import SHIPPED
from raysweep.values import SEED


def drawn(task: Task, count: int) -> list[dict[str, Any]]:
    """Random configurations, the same each time."""
    random = np.random.RandomState(0)
    return [{name: domain.sample(random_state=random) for name, domain in task.space.items()} for _ in range(count)]


def seeded(task: Task, data: str | None) -> Task:
    """The task with a parameter for the seed, and its data from a folder."""
    space, read = {**task.space, SEED: tune.randint(0, 1000)}, task.load_data
    if data is None or read is None:
        return dataclasses.replace(task, space=space)
    return dataclasses.replace(task, space=space, load_data=lambda _: read(Path(data)))


@click.command()
@click.argument("name")
@click.option("--configurations", default=200, show_default=True, help="How many.")
@click.option("--seeds", default=5, show_default=True, help="Of each configuration.")
@click.option("--iterations", type=int, help="Of a curve. Default: the task's.")
@click.option("--data", help="Folder with the task's data.")
@click.option("--storage", default="runs", show_default=True, help="Where the sweep goes.")
@click.option("--output", type=click.Path(path_type=Path), help="The table. Default: where the kit's tables are.")
def main(
    name: str,
    configurations: int,
    seeds: int,
    iterations: int | None,
    data: str | None,
    storage: str,
    output: Path | None,
) -> None:
    """Trains all, and writes the table of the task NAME."""
    task, path = load(name), output or SHIPPED / f"{name}.parquet"
    points = [{**config, SEED: seed} for seed in range(seeds) for config in drawn(task, configurations)]
    sweep = raysweep.run(
        "random_search",
        seeded(task, data),
        points=points,
        samples=len(points),
        max_iterations=iterations,
        storage=storage,
        name=f"{name}-curves",
        resume="auto",
    )
    table, left_out = record([sweep], task.space, task.mutable)
    path.parent.mkdir(exist_ok=True)
    table.save(path)
    click.echo(f"{path}: {len(table.frame)} iterations, {path.stat().st_size / 1e6:.2f} MB; left out: {left_out or 0}")


if __name__ == "__main__":
    main()
