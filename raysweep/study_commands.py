"""The commands about many sweeps: record their curves, simulate strategies on them, compare them, verify the best."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raysweep.clusters import lifecycle
from raysweep.errors import BadInput
from raysweep.local_commands import current_project, storage_option
from raysweep.submit import ray_jobs
from raysweep.submit.connection import ADDRESSES
from raysweep.submit.connection import storage as place
from raysweep.submit.request import JobRequest

if TYPE_CHECKING:
    import pandas as pd

    from raysweep.history.results import SweepResults
    from raysweep.study.comparison import Comparison
    from raysweep.study.curves import Curves

FORMATS = (".csv", ".json")
# Flags of a sweep with which its configurations are trained again, beside its task, data, metric and iterations.
KEPT = ("cpus_per_trial", "gpus_per_trial", "workers_per_trial", "max_failures", "trial_timeout")
_target = click.option("--target", type=float, help="Value to reach. Default: the median best of the first strategy.")


def _output(command: Callable[..., None]) -> Callable[..., None]:
    about = "Write all figures there: .json, or .csv with one row a strategy."
    return click.option("--output", type=click.Path(path_type=Path), help=about)(command)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The table: a Parquet file.")
@click.option(
    "--space", type=click.Path(path_type=Path), help="YAML file of the space, if the task cannot be imported."
)
@storage_option
def record(names: tuple[str, ...], output: Path, space: Path | None, storage: str | None) -> None:
    """Make a table of learning curves from finished sweeps, for `raysweep simulate` and for pandas.

    NAME may be a pattern, such as 'digits-*'. Trials that were stopped early, or went on from another trial, are left
    out: record random_search.
    """
    import contextlib

    from raysweep.spec import space_file
    from raysweep.spec import task as tasks
    from raysweep.study import sweeps
    from raysweep.study.curves import Curves
    from raysweep.study.record import record

    project, output = current_project(), output.absolute()
    found = sweeps.find(names, place(project, storage))
    if space is not None:
        table, left_out = record(found, space_file.read(space))
    else:
        with contextlib.chdir(project):  # where the task's module is found
            task = tasks.load(found[0].spec["task"])
        table, left_out = record(found, task.space, task.mutable)
    table.save(output)
    curves = Curves(table)
    size = output.stat().st_size / 1e6
    rows = table.frame
    click.echo(
        f"wrote {output}: {len(curves)} configurations, {len(rows.groupby(['configuration', 'seed']))} curves,"
        f" {len(rows)} iterations, {size:.2f} MB"
    )
    for reason, count in left_out.items():
        click.echo(f"left out: {count} trials: {reason}")
    click.echo(_lookup(curves))


@click.command()
@click.argument("table")
@click.option(
    "--strategy", "asked", multiple=True, default=("random_search,asha",), show_default=True,
    help="Strategies with commas, or one with its flags: 'asha --grace-period 3'. Repeatable.",
)  # fmt: skip
@click.option("--seeds", type=click.IntRange(min=1), default=30, show_default=True, help="Sweeps of each strategy.")
@click.option("--workers", type=click.IntRange(min=1), default=4, show_default=True, help="Trials at the same time.")
@click.option(
    "--budget", type=click.FloatRange(min=0, min_open=True), help="Seconds of a sweep. Default: 20 whole trials."
)
@_target
@_output
def simulate(
    table: str, asked: tuple[str, ...], seeds: int, workers: int, budget: float | None, target: float | None,
    output: Path | None,
) -> None:  # fmt: skip
    """Run strategies on recorded learning curves: hundreds of sweeps in minutes, without a cluster.

    TABLE is a file of `raysweep record`, or a shipped one: digits, fashion_mnist. The strategies are the very files of
    jobs/, and an iteration takes as long as it took when it was recorded.
    """
    _check(output)
    from raysweep.study import simulator
    from raysweep.study.comparison import Budget, compare
    from raysweep.study.curves import Curves
    from raysweep.study.table import load

    curves = Curves(load(table))
    contenders = [simulator.contender(text.strip()) for words in asked for text in words.split(",")]
    at = simulator.conditions(curves, workers, budget)
    click.echo(
        f"{_lookup(curves)}\n{seeds} seeds, {workers} workers, {at.seconds:.4g} simulated seconds a sweep", err=True
    )
    runs = {}
    for each in contenders:
        runs[each.label] = {run.seed: run for run in simulator.trajectories(curves, each, at, range(seeds))}
        click.echo(f"simulated {each.label}", err=True)
    found = compare(runs, curves.table.metric, curves.table.mode, Budget(seconds=at.seconds), target)
    _show(found, output, {"table": table, "workers": workers, "lookup": vars(curves.accuracy())})


@click.command()
@click.argument("groups", nargs=-1, required=True, metavar="SWEEPS...")
@click.option("--budget", type=click.IntRange(min=1), help="Iterations of all trials. Default: of the shortest sweep.")
@_target
@_output
@storage_option
def compare(
    groups: tuple[str, ...], budget: int | None, target: float | None, output: Path | None, storage: str | None
) -> None:
    """Say which strategy is better on finished sweeps, and whether that may be luck.

    SWEEPS is the name of a sweep, a pattern such as 'digits-asha-*', or a group: 'mine=first,second'. Sweeps of one
    strategy are one group. Groups are compared over the seeds that both have, at the same number of iterations of all
    trials together.
    """
    _check(output)
    from raysweep.study import sweeps
    from raysweep.study.comparison import Budget
    from raysweep.study.comparison import compare as compared

    found = sweeps.groups(groups, place(current_project(), storage))
    objective = next(iter(found.values()))[0].objective
    runs = {label: sweeps.runs(group) for label, group in found.items()}
    at = Budget(iterations=budget) if budget else None
    _show(compared(runs, objective.metrics[0], objective.modes[0], at, target), output, {})


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="Configurations, the best first.")
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Fresh seeds of each.")
@click.option("--name", "own_name", help="Name of the sweep that does it. Default: NAME-verify.")
@click.option("--test-metric", help="Of the test part. Default: test_X, if the sweep optimised val_X or X.")
@storage_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ANY FLAG OF THE JOB]...")
def verify(
    name: str,
    top: int,
    seeds: int,
    own_name: str | None,
    test_metric: str | None,
    storage: str | None,
    arguments: tuple[str, ...],
) -> None:
    """Train the best configurations of a sweep with fresh seeds, score the test part, and say how lucky the sweep was.

    It is a sweep of its own: on the project's cluster if there is one, else here. If it exists, it is continued.
    """
    from raysweep.driver.verify import configurations
    from raysweep.history import results
    from raysweep.study.verification import evaluate

    where = place(current_project(), storage)
    sweep = results.read(name, where)
    configurations(sweep, top)  # a sweep that cannot be verified is refused before a job starts
    again = own_name or f"{name}-verify"
    code = _train_again(sweep, again, where, ("--top", str(top), "--seeds", str(seeds), *arguments))
    if code == BadInput.exit_code:
        sys.exit(code)
    found = evaluate(sweep, results.read(again, where), test_metric)
    click.echo(f"\n{_text(found.table)}\n")
    click.echo("\n".join(found.sentences))
    sys.exit(code)


def _train_again(sweep: SweepResults, name: str, where: str, arguments: tuple[str, ...]) -> int:
    """Runs the sweep that verifies another one, to its end; its exit code."""
    flags = sweep.spec.get("flags", {})
    kept = {key: flags[key] for key in KEPT if flags.get(key) is not None}
    kept |= {"metric": sweep.objective.metrics[0], "mode": sweep.objective.modes[0]}
    kept |= {"max_iterations": sweep.spec["max_iterations"]}
    words = [word for key, value in kept.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    request = JobRequest(
        "verify",
        name,
        ("--of", str(sweep.spec["name"]), "--resume", "auto", *words, *arguments),
        task=sweep.spec["task"],
        storage=where,
        data=flags.get("data"),
        module="raysweep.driver.verify",
    )
    project = current_project()
    if lifecycle.read(project) or any(os.environ.get(each) for each in ADDRESSES):
        return ray_jobs.submit(project, request, follow=True)
    command = request.from_here(project, on_this_machine=True).command(project)
    return subprocess.run([sys.executable, *command[1:]], cwd=project, check=False).returncode


def _lookup(curves: Curves) -> str:
    """What the look-up of a configuration that is not in the table is worth."""
    if len(curves) < 2:
        return "one configuration: every other one has its curve"
    error, metric = curves.accuracy(), curves.table.metric
    return (
        f"a configuration that is not in the table has its nearest neighbour's curve: by leave-one-out, its best"
        f" {metric} is off by {error.metric:.2g} on average (two seeds of one: {error.noise:.2g}), ranks correlate by"
        f" {error.rank:.2f}, its seconds are off by {error.seconds:.0%}"
    )


def _check(output: Path | None) -> None:
    if output is not None and output.suffix not in FORMATS:
        raise BadInput(f"`--output {output}`: must end in {' or '.join(FORMATS)}: give it one of these endings")


def _show(found: Comparison, output: Path | None, more: dict[str, Any]) -> None:
    """Prints a comparison, and writes it."""
    budget = found.budget
    at = f"{budget.seconds:.4g} s" if budget.seconds is not None else f"{budget.iterations} iterations of all trials"
    click.echo(f"best {found.metric} after {at}; target {found.target:.6g}\n")
    click.echo(_text(found.table))
    if found.pairs:
        click.echo(f"\n{_text(found.differences)}")
    click.echo(f"\n{found.sentence}")
    if output is None:
        return
    if output.suffix == ".csv":
        found.table.to_csv(output, index=False)
        return
    whole = more | {"metric": found.metric, "target": found.target, "budget": budget._asdict()}
    whole |= {"strategies": _rows(found.table), "pairs": _rows(found.differences), "sentence": found.sentence}
    output.write_text(json.dumps(whole, indent=2, allow_nan=False) + "\n")


def _text(table: pd.DataFrame) -> str:
    return str(table.to_string(index=False, float_format=lambda value: f"{value:.4g}", na_rep=""))


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as JSON has them: no number is null."""
    return list(json.loads(table.to_json(orient="records", double_precision=15)))


COMMANDS = (record, simulate, compare, verify)
