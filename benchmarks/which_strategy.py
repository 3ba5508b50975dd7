"""Which strategy to choose, from recorded learning curves: the page docs/which-strategy.md, and all figures as JSON.

Each strategy of jobs/, and each of benchmarks/peers.py, is simulated on each table with several budgets and numbers of
workers, once for each seed: time to the target, and the best value at the end of the budget. With `--cache DIR` a run
that was interrupted goes on, and strategies can be added; a sweep is simulated anew if its table, its conditions, or
the file of its strategy has changed.

    python benchmarks/which_strategy.py --output docs/which-strategy.md
    python benchmarks/which_strategy.py --table curves.parquet --seeds 5 --budget 10 --workers 4 --without-peers
"""

from __future__ import annotations

import inspect
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import click
import joblib
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
        peer: the strategy of another library that was the fastest; None without any.
        than_peer: label -> how many times sooner than that one, with its interval.
        seconds: real ones that a simulated sweep took.
    """

    table: str
    trials: int
    at: Conditions
    found: Comparison
    speedups: dict[str, tuple[float, Interval]]
    peer: str | None
    than_peer: dict[str, tuple[float, Interval]]
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


class Simulations:
    """Simulated sweeps, which are kept in a folder if one is given.

    Args:
        cache: the folder.
        jobs: processes.
    """

    def __init__(self, cache: Path | None = None, jobs: int = 1) -> None:
        self._simulated = joblib.Memory(cache, verbose=0).cache(_simulated, ignore=["curves", "asked"])
        self._parallel = joblib.Parallel(n_jobs=jobs)

    def __call__(
        self, curves: Curves, asked: Contender, at: Conditions, seeds: int
    ) -> tuple[dict[int, Trajectory], float]:
        """One sweep for each seed, and the mean of the seconds that they took."""
        table, source = joblib.hash(curves.table.frame), _source(asked)
        found = self._parallel(
            joblib.delayed(self._simulated)(table, asked.label, source, at, seed, curves, asked)
            for seed in range(seeds)
        )
        return {run.seed: run for run, _ in found}, float(np.mean([seconds for _, seconds in found]))


def _source(asked: Contender) -> str:
    """The file of a strategy."""
    return inspect.getsource(inspect.getmodule(asked.strategy.tune_config) or peers)


def _simulated(
    table: str, label: str, source: str, at: Conditions, seed: int, curves: Curves, asked: Contender
) -> tuple[Trajectory, float]:
    """A sweep and the seconds that it took; the first arguments are what it is remembered by."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the models
        run = simulator.run(curves, asked, at, seed)
    return run, time.perf_counter() - began


def measured(
    name: str,
    curves: Curves,
    trials: int,
    workers: int,
    seeds: int,
    contenders: Sequence[Contender],
    simulations: Simulations | None = None,
    fewer: Mapping[str, int] | None = None,
) -> Cell:
    """One cell; the target is what random search has reached at the end of the budget, as a median.

    Args:
        name: of the table.
        curves: the table.
        trials: complete trials that the budget has room for.
        workers: trials at the same time.
        seeds: sweeps of each strategy.
        contenders: the strategies.
        simulations: those that were done before.
        fewer: label -> sweeps of a strategy that is slow to simulate.
    """
    at, runs, seconds = simulator.conditions(curves, workers, None, trials), {}, {}
    simulations = simulations or Simulations()
    for each in contenders:
        own = (fewer or {}).get(each.label, seeds)
        runs[each.label], seconds[each.label] = simulations(curves, each, at, own)
        click.echo(
            f"{name}, {trials} trials, {workers} workers: {each.label}, {seconds[each.label]:.2f} s a sweep", err=True
        )
    ordered = {BASELINE: runs[BASELINE]} | runs
    found = compare(ordered, curves.table.metric, curves.table.mode, Budget(seconds=at.seconds))

    def than(other: str) -> dict[str, tuple[float, Interval]]:
        return {label: speedup(group, runs[other], found.target, at.seconds) for label, group in runs.items()}

    speedups = than(BASELINE)
    others = [label for label in runs if label.startswith(peers.LIBRARIES)]
    peer = max(others, key=lambda label: speedups[label][0], default=None)
    return Cell(name, trials, at, found, speedups, peer, than(peer) if peer else {}, seconds)


def page(cells: Sequence[Cell], tables: Mapping[str, Curves]) -> str:
    """The page in Markdown."""
    counts = [(group.seeds, cell.seconds[group.label]) for cell in cells for group in cell.found.groups]
    minutes = sum(seeds * seconds for seeds, seconds in counts) / 60
    parts = [
        "# Which strategy",
        "",
        f"{date.today()}. Written by `benchmarks/which_strategy.py`: {sum(seeds for seeds, _ in counts):,} simulated",
        f"sweeps, {minutes:.0f} minutes of one processor in all, on the recorded learning curves below, with their",
        f"recorded seconds. Beside the strategies of `jobs/`: {peers.versions()}, where they are named, with their",
        "defaults.",
        "",
        "- **sooner**: how many times sooner than random search the target was reached: the ratio of the mean times",
        "  over the same seeds. The target is the median of what random search has at the end. A sweep that misses it",
        f"  counts with {UNREACHED:g} times the budget. **than the best peer**: the same ratio to the fastest strategy",
        "  of another library in that row.",
        "- **sweeps**: how many were simulated, each with a seed that all others of the table have, too. **reached**:",
        "  the share of them that did. **best**: the mean of the best values at the end of the budget.",
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
        f"{cell.at.seconds:.3g} simulated seconds; target {cell.found.target:.4g}."
        + (f" The best peer: {cell.peer}." if cell.peer else ""),
        "",
        "| strategy | sooner | than the best peer | sweeps | reached | best |",
        "|---|---|---|---|---|---|",
    ]
    for label in sooner:
        group, peer = groups[label], _ratio(cell.than_peer[label]) if cell.peer else ""
        best = f"{group.mean:.4f} [{group.interval[0]:.4f}, {group.interval[1]:.4f}]{' *' if label in wins else ''}"
        sooner_than = f"{_ratio(cell.speedups[label])} | {peer}"
        lines.append(f"| {label} | {sooner_than} | {group.seeds} | {group.reached:.0%} | {best} |")
    return lines


def _ratio(found: tuple[float, Interval]) -> str:
    ratio, (low, high) = found
    return f"{ratio:.2f} [{low:.2f}, {high:.2f}]"


def _figures(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    return [
        {
            "table": cell.table, "trials": cell.trials, "workers": cell.at.workers, "budget_s": cell.at.seconds,
            "target": cell.found.target, "strategies": json.loads(cell.found.table.to_json(orient="records")),
            "sooner": cell.speedups, "best_peer": cell.peer, "than_best_peer": cell.than_peer,
            "simulation_s": cell.seconds,
        }
        for cell in cells
    ]  # fmt: skip


@click.command()
@click.option("--table", "names", multiple=True, help="A file, or a shipped table. Repeatable. Default: all shipped.")
@click.option("--seeds", default=30, show_default=True, help="Sweeps of each strategy.")
@click.option(
    "--seeds-of", type=(str, int), multiple=True, metavar="STRATEGY N", help="Fewer of one that is slow to simulate."
)
@click.option(
    "--budget", "budgets", multiple=True, type=int, default=(10, 30), show_default=True, help="Complete trials."
)
@click.option(
    "--workers", multiple=True, type=int, default=(1, 4, 16), show_default=True, help="Trials at the same time."
)
@click.option("--strategies", "asked", help="With commas. Default: all but grid and multi_objective.")
@click.option("--without-peers", is_flag=True, help="Leave out the other libraries.")
@click.option("--cache", type=click.Path(path_type=Path), help="A folder that keeps the simulated sweeps.")
@click.option("--jobs", default=1, show_default=True, help="Processes.")
@click.option("--output", type=click.Path(path_type=Path), help="The page; printed if not given.")
@click.option("--figures", type=click.Path(path_type=Path), help="All figures, as JSON.")
def main(
    names: tuple[str, ...], seeds: int, seeds_of: tuple[tuple[str, int], ...], budgets: tuple[int, ...],
    workers: tuple[int, ...], asked: str | None, without_peers: bool, cache: Path | None, jobs: int,
    output: Path | None, figures: Path | None,
) -> None:  # fmt: skip
    """Simulates all, and writes the page."""
    simulations = Simulations(cache, jobs)
    chosen = asked.split(",") if asked else [name for name in strategies() if name not in LEFT_OUT]
    contenders = [simulator.contender(name) for name in dict.fromkeys([BASELINE, *chosen])]
    contenders += [] if without_peers else peers.contenders()
    tables = {
        Path(name).stem: Curves(load(name)) for name in names or sorted(p.stem for p in SHIPPED.glob("*.parquet"))
    }
    cells = [
        measured(name, curves, trials, places, seeds, contenders, simulations, dict(seeds_of))
        for name, curves in tables.items()
        for trials in budgets
        for places in workers
    ]
    text = page(cells, tables)
    click.echo(text) if output is None else output.write_text(text)
    if figures is not None:
        figures.write_text(json.dumps(_figures(cells), indent=1) + "\n")


if __name__ == "__main__":
    main()
