"""Every strategy on real data, each as a job by plain `ray job submit`: best accuracy, seconds and trials, as a table.

Needs a cluster (`make cluster-up`). Seconds are of the whole command: start of the driver, the sweep, and the tail of
its log. The sweeps are small: they show that each strategy works and what it costs, not which is the best.

    python benchmarks/strategies.py --data /usr/share/datasets/fashion-mnist --out docs/strategies.md
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import click

from raysweep.history import results
from raysweep.spec.sweep import strategies
from raysweep.submit.connection import access

PROJECT = Path(__file__).parents[1]
RAY = Path(sys.executable).with_name("ray")
GRID = {"grid": ("--samples", "1", "--resolution", "2")}


@dataclass(frozen=True)
class Run:
    """One sweep of the table; `accuracy` is that of its best trial on the validation part."""

    strategy: str
    task: str
    accuracy: float
    trials: str
    seconds: float


def run(strategy: str, task: str, arguments: Sequence[str], storage: str) -> Run:
    """Submits one strategy and waits for it.

    Raises:
        ClickException: the job did not succeed.
    """
    name = f"{strategy}-{task}-{time.strftime('%Y%m%d-%H%M%S')}"
    job = ["python", f"jobs/{strategy}.py", "--task", task, "--name", name, "--storage", storage, *arguments]
    door = access(PROJECT)
    environment = {**os.environ, "RAY_ADDRESS": door.dashboard, "RAY_AUTH_MODE": "token"}
    environment["RAY_AUTH_TOKEN"] = door.token or ""
    began = time.perf_counter()
    done = subprocess.run(
        [str(RAY), "job", "submit", "--working-dir", str(PROJECT), "--", *job],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise click.ClickException(f"{strategy} on {task}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    found = results.read(name, storage)
    ended = {status: found.state.count(status) for status in ("finished", "stopped", "failed")}
    trials = ", ".join(f"{count} {status}" for status, count in ended.items() if count)
    return Run(strategy, task, float(found.table["val_accuracy"].max()), trials, seconds)


def page(runs: Sequence[Run], titles: dict[str, str]) -> str:
    """The tables as Markdown."""
    parts = [
        "# Every strategy, measured",
        "",
        f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, no GPU: a Ray cluster on one machine, each",
        "sweep submitted by plain `ray job submit`. Written by `benchmarks/strategies.py`. The sweeps are small: the",
        "tables show that each strategy works and what it costs, not which is the best. Accuracy is that of the best",
        "trial on the validation part; seconds are of the whole command, about ten of them for the start of the job.",
    ]
    for task, title in titles.items():
        parts += ["", f"## {title}", "", "| strategy | best val_accuracy | trials | seconds |", "|---|---|---|---|"]
        parts += [
            f"| `{r.strategy}` | {r.accuracy:.4f} | {r.trials} | {r.seconds:.0f} |" for r in runs if r.task == task
        ]
    return "\n".join(parts) + "\n"


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True, help="Fashion-MNIST's idx files.")
@click.option("--storage", default=str(PROJECT / "runs"), show_default=True, help="Where the sweeps go.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the page there too.")
@click.option("--only", multiple=True, type=click.Choice(strategies()), help="Just these strategies.")
def main(data: Path, storage: str, out: Path | None, only: tuple[str, ...]) -> None:
    """Runs each strategy on digits and on Fashion-MNIST, one after the other."""
    sizes = {
        "digits": ("--samples", "12", "--max-iterations", "9"),
        "mnist": ("--samples", "6", "--max-iterations", "4", "--data", str(data.absolute())),
    }
    titles = {task: f"{task}: {' '.join(size[:4])}" for task, size in sizes.items()}
    titles["mnist"] += " (Fashion-MNIST)"
    runs = []
    for task, size in sizes.items():
        for strategy in only or strategies():
            runs.append(run(strategy, task, (*size, *GRID.get(strategy, ())), storage))
            click.echo(runs[-1])
    text = page(runs, titles)
    click.echo(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    main()
