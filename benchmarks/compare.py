"""Runs strategies with equal budgets and shared seeds, and compares them: `make compare`.

    python benchmarks/compare.py --task digits --strategies "random_search asha tpe_asha pbt" --seeds 10

The budget is the same number of iterations of all trials together: that of `--samples` complete trials. A strategy that
stops trials early is given more of them until it has used the budget up. The sweeps are called
compare-TASK-STRATEGY-SEED: a run that was interrupted goes on, and `raysweep compare` has them afterwards.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import click

import raysweep
from raysweep.driver import local_ray
from raysweep.history.results import SweepResults
from raysweep.spec.sweep import default_storage, strategy
from raysweep.spec.task import load
from raysweep.study.trajectory import of_sweep


def run(
    name: str, task: str, strategy_name: str, seed: int, samples: int, storage: str, data: str | None
) -> SweepResults:
    """One sweep, with as many trials as it takes to use the budget up."""
    budget, asked = samples * load(task).max_iterations, samples
    while True:
        found = raysweep.run(
            strategy_name, task, name=name, seed=seed, samples=asked, storage=storage, data=data, resume="auto"
        )
        done, trials = of_sweep(found).iterations, len(found.state.trials)
        if done >= budget or trials < asked:  # used up, or there is nothing left to draw
            return found
        asked += max(1, math.ceil((budget - done) * trials / done))


@click.command()
@click.option("--task", default="digits", show_default=True, help="What is tuned.")
@click.option("--strategies", default="random_search asha tpe_asha pbt", show_default=True, help="With spaces.")
@click.option("--seeds", type=click.IntRange(min=1), default=10, show_default=True, help="Sweeps of each strategy.")
@click.option(
    "--samples", type=click.IntRange(min=1), default=20, show_default=True, help="Complete trials of a budget."
)
@click.option("--storage", default=None, help="A folder or s3://bucket/prefix. Default: $RAYSWEEP_STORAGE, else runs.")
@click.option("--data", default=None, help="Folder of the task's data set.")
def main(task: str, strategies: str, seeds: int, samples: int, storage: str | None, data: str | None) -> None:
    """Runs all sweeps, and says which strategy is better."""
    from raysweep.study_commands import compare

    names, where = strategies.split(), storage or default_storage()
    for name in names:
        strategy(name)  # refused before the first one runs
    local_ray.start()
    for seed in range(seeds):
        for name in names:
            run(f"compare-{task}-{name}-{seed}", task, name, seed, samples, where, data)
    groups = [f"{name}=compare-{task}-{name}-*" for name in names]
    figures = Path(f"compare-{task}.json")
    budget = samples * load(task).max_iterations
    sys.exit(compare.main([*groups, "--storage", where, "--budget", str(budget), "--output", str(figures)]))


if __name__ == "__main__":
    main()
