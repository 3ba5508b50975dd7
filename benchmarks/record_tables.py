"""Records the shipped tables of learning curves: random configurations of a task, each trained with several seeds.

    python benchmarks/record_tables.py digits --configurations 200 --seeds 5
    python benchmarks/record_tables.py fashion_mnist --configurations 64 --seeds 3 --data DIR

Each seed is a sweep of random search on this machine, with the same configurations: one that was interrupted goes on.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

import raysweep
from raysweep.driver import local_ray
from raysweep.spec.task import load
from raysweep.study.record import SEED, record
from raysweep.study.table import SHIPPED


@click.command()
@click.argument("task")
@click.option("--table", help="Its name. Default: the task's.")
@click.option("--configurations", default=200, show_default=True, help="How many.")
@click.option("--seeds", default=5, show_default=True, help="Of each configuration.")
@click.option("--iterations", type=int, help="Of a curve. Default: the task's.")
@click.option("--data", help="Folder with the task's data.")
@click.option("--storage", default="runs", show_default=True, help="Where the sweeps go.")
@click.option("--output", type=click.Path(path_type=Path), help="The table. Default: where the kit's tables are.")
def main(
    task: str,
    table: str | None,
    configurations: int,
    seeds: int,
    iterations: int | None,
    data: str | None,
    storage: str,
    output: Path | None,
) -> None:
    """Trains all, and writes the table."""
    loaded, name, path = load(task), table or task, output or SHIPPED / f"{table or task}.parquet"
    read, with_data = loaded.load_data, loaded
    if data is not None and read is not None:
        with_data = dataclasses.replace(loaded, load_data=lambda _: read(Path(data)))
    local_ray.start()
    sweeps = [
        raysweep.run(
            "random_search",
            dataclasses.replace(with_data, space={**loaded.space, SEED: seed}),
            name=f"{name}-curves-{seed}",
            samples=configurations,
            max_iterations=iterations,
            storage=storage,
            resume="auto",
        )
        for seed in range(seeds)
    ]
    found, left_out = record(sweeps, loaded.space, loaded.mutable)
    path.parent.mkdir(exist_ok=True)
    found.save(path)
    click.echo(f"{path}: {len(found.frame)} iterations, {path.stat().st_size / 1e6:.2f} MB; left out: {left_out or 0}")


if __name__ == "__main__":
    main()
