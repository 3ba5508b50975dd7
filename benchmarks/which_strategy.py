"""Which strategy to choose, from recorded learning curves: the page docs/which-strategy.md, and all figures as JSON.

Each strategy of jobs/, and each of benchmarks/peers.py, is simulated on each table with several budgets and numbers of
workers, once for each seed: time to the target, and the best value at the end of the budget.

    python benchmarks/which_strategy.py --output docs/which-strategy.md
    python benchmarks/which_strategy.py --table curves.parquet --seeds 5 --budget 10 --workers 4 --without-peers
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import peers
from raysweep.spec.sweep import strategies
from raysweep.study import simulator
from raysweep.study.comparison import SHOWN, Budget, Comparison, Interval, compare
from raysweep.study.curves import Curves
from raysweep.study.simulator import Conditions, Contender
from raysweep.study.table import SHIPPED, load
from raysweep.study.trajectory import Trajectory

BASELINE = "random_search"
LEFT_OUT = ("grid", "multi_objective")  # a grid has no seed, and a table one objective
RESAMPLES = 2_000
UNREACHED = 2.0  # times the budget count as the time of a sweep that did not reach the target


@dataclass(frozen=True)
class Cell:
    """All strategies on one table, with one budget and number of workers.

    Attributes:
        table: its name.
        trials: complete trials that the budget has room for.
        at: the conditions.
        found: the comparison.
        speedups: label -> how many times sooner than random search the target was reached, with its interval.
        seconds: real ones that a simulated sweep took.
    """

    table: str
    trials: int
    at: Conditions
    found: Comparison
    speedups: dict[str, tuple[float, Interval]]
    seconds: dict[str, float]


def speedup(
    runs: Mapping[int, Trajectory], base: Mapping[int, Trajectory], target: float, budget: float
) -> tuple[float, Interval]:
    """The ratio of the mean times to the target, over shared seeds, with its bootstrap interval.

    A sweep that did not reach it within the budget counts with UNREACHED times the budget.
    """
    seeds = sorted(runs.keys() & base.keys())
    own, others = (np.array([_time(group[seed], target, budget) for seed in seeds]) for group in (runs, base))
    drawn = np.random.default_rng(0).integers(len(seeds), size=(RESAMPLES, len(seeds)))
    ratios = others[drawn].mean(axis=1) / own[drawn].mean(axis=1)
    low, high = np.quantile(ratios, [(1 - SHOWN) / 2, (1 + SHOWN) / 2])
    return float(others.mean() / own.mean()), (float(low), float(high))


def _time(run: Trajectory, target: float, budget: float) -> float:
    seconds = run.reached(target)[0]
    return seconds if seconds <= budget else UNREACHED * budget


def measured(name: str, curves: Curves, trials: int, workers: int, seeds: int, contenders: Sequence[Contender]) -> Cell:
    """One cell; the target is what random search has reached at the end of the budget, as a median."""
    at, runs, seconds = simulator.conditions(curves, workers, None, trials), {}, {}
    for each in contenders:
        began = time.perf_counter()
        runs[each.label] = {run.seed: run for run in simulator.trajectories(curves, each, at, range(seeds))}
        seconds[each.label] = (time.perf_counter() - began) / seeds
        click.echo(
            f"{name}, {trials} trials, {workers} workers: {each.label}, {seconds[each.label]:.2f} s a sweep", err=True
        )
    ordered = {BASELINE: runs[BASELINE]} | runs
    found = compare(ordered, curves.table.metric, curves.table.mode, Budget(seconds=at.seconds))
    speedups = {label: speedup(group, runs[BASELINE], found.target, at.seconds) for label, group in runs.items()}
    return Cell(name, trials, at, found, speedups, seconds)


def page(cells: Sequence[Cell], tables: Mapping[str, Curves], seeds: int, minutes: float) -> str:
    """The page in Markdown."""
    parts = [
        "# Which strategy",
        "",
        f"{date.today()}. Written by `benchmarks/which_strategy.py`: {seeds} simulated sweeps of each strategy in each",
        f"row, {minutes:.0f} minutes in all, on the recorded learning curves below, with their recorded seconds.",
        f"Beside the strategies of `jobs/`: Optuna {version('optuna')} and Syne Tune, where they are named, with their",
        "defaults.",
        "",
        "- **sooner**: how many times sooner than random search the target was reached: the ratio of the mean times",
        "  over the same seeds. The target is the median of what random search has at the end. A sweep that misses it",
        f"  counts with {UNREACHED:g} times the budget.",
        "- **reached**: the share of sweeps that did. **best**: the mean of the best values at the end of the budget.",
        f"- Brackets are {SHOWN:.0%} bootstrap intervals; * is a win over random search that is not luck (see",
        "  `raysweep compare`).",
    ]
    for name, curves in tables.items():
        parts += ["", f"## {name}", "", *_about(curves)]
        for cell in (cell for cell in cells if cell.table == name):
            parts += ["", *_table(cell)]
    return "\n".join(parts) + "\n"


def _about(curves: Curves) -> list[str]:
    table, error = curves.table, curves.accuracy()
    return [
        f"{len(curves)} configurations, {table.frame['seed'].nunique()} seeds, {table.max_iterations} iterations;"
        f" {table.metric}, {table.mode}; recorded on {', '.join(table.about.get('hardware', ['?']))}.",
        "A configuration that is not in the table has its nearest neighbour's curve: by leave-one-out its best value is"
        f" off by {error.metric:.2g} on average (two seeds of one: {error.noise:.2g}), and ranks correlate by"
        f" {error.rank:.2f}.",
    ]


def _table(cell: Cell) -> list[str]:
    sooner = sorted(cell.speedups, key=lambda label: -cell.speedups[label][0])
    groups = {group.label: group for group in cell.found.groups}
    wins = {pair.one for pair in cell.found.pairs if pair.other == BASELINE and pair.winner == pair.one}
    lines = [
        f"### A budget of {cell.trials} complete trials, {cell.at.workers} workers",
        "",
        f"{cell.at.seconds:.3g} simulated seconds; target {cell.found.target:.4g}.",
        "",
        "| strategy | sooner | reached | best |",
        "|---|---|---|---|",
    ]
    for label in sooner:
        (ratio, (low, high)), group = cell.speedups[label], groups[label]
        best = f"{group.mean:.4f} [{group.interval[0]:.4f}, {group.interval[1]:.4f}]{' *' if label in wins else ''}"
        lines.append(f"| {label} | {ratio:.2f} [{low:.2f}, {high:.2f}] | {group.reached:.0%} | {best} |")
    return lines


def _figures(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    return [
        {
            "table": cell.table, "trials": cell.trials, "workers": cell.at.workers, "budget_s": cell.at.seconds,
            "target": cell.found.target, "strategies": json.loads(cell.found.table.to_json(orient="records")),
            "sooner": cell.speedups, "simulation_s": cell.seconds,
        }
        for cell in cells
    ]  # fmt: skip


@click.command()
@click.option("--table", "names", multiple=True, help="A file, or a shipped table. Repeatable. Default: all shipped.")
@click.option("--seeds", default=30, show_default=True, help="Sweeps of each strategy.")
@click.option(
    "--budget", "budgets", multiple=True, type=int, default=(10, 30), show_default=True, help="Complete trials."
)
@click.option(
    "--workers", multiple=True, type=int, default=(1, 4, 16), show_default=True, help="Trials at the same time."
)
@click.option("--strategies", "asked", help="With commas. Default: all but grid and multi_objective.")
@click.option("--without-peers", is_flag=True, help="Leave out the other libraries.")
@click.option("--output", type=click.Path(path_type=Path), help="The page; printed if not given.")
@click.option("--figures", type=click.Path(path_type=Path), help="All figures, as JSON.")
def main(
    names: tuple[str, ...], seeds: int, budgets: tuple[int, ...], workers: tuple[int, ...], asked: str | None,
    without_peers: bool, output: Path | None, figures: Path | None,
) -> None:  # fmt: skip
    """Simulates all, and writes the page."""
    warnings.simplefilter("ignore")  # of the models
    began = time.monotonic()
    chosen = asked.split(",") if asked else [name for name in strategies() if name not in LEFT_OUT]
    contenders = [simulator.contender(name) for name in dict.fromkeys([BASELINE, *chosen])]
    contenders += [] if without_peers else peers.contenders()
    tables = {
        Path(name).stem: Curves(load(name)) for name in names or sorted(p.stem for p in SHIPPED.glob("*.parquet"))
    }
    cells = [
        measured(name, curves, trials, places, seeds, contenders)
        for name, curves in tables.items()
        for trials in budgets
        for places in workers
    ]
    text = page(cells, tables, seeds, (time.monotonic() - began) / 60)
    click.echo(text) if output is None else output.write_text(text)
    if figures is not None:
        figures.write_text(json.dumps(_figures(cells), indent=1) + "\n")


if __name__ == "__main__":
    main()
