"""The commands on the sweeps that a storage keeps: their results, and what goes of them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from raysweep.local_commands import current_project, named, storage_option, table
from raysweep.submit.connection import storage as place

if TYPE_CHECKING:
    from raysweep.history.inventory import Entry

COLUMNS = ("SWEEP", "STRATEGY", "TASK", "TRIALS", "BEST", "WHEN (UTC)", "SIZE")


@click.command("results")
@click.argument("name", required=False)
@storage_option
@click.option("--top", default=10, show_default=True, help="How many trials to show, the best first.")
def results_(name: str | None, storage: str | None, top: int) -> None:
    """Show the results of a sweep, running or ended; without NAME all sweeps of the storage, the newest first."""
    from raysweep.history import inventory, results

    where = place(current_project(), storage)
    if name is None:
        entries = inventory.entries(where)
        click.echo(table([COLUMNS, *map(_row, entries)]) if entries else f"no sweeps in {where}")
        return
    sweep_results = results.read(name, where)
    if sweep_results.state.trials:
        click.echo(results.ranked(sweep_results).head(top).to_string(index=False))
    click.echo(results.summary(sweep_results))
    for problem in sweep_results.damage:
        click.echo(f"error: {problem}", err=True)
    sys.exit(bool(sweep_results.damage))


def _row(entry: Entry) -> tuple[str, ...]:
    trials = f"{entry.trials}" if entry.ended == entry.trials else f"{entry.ended} of {entry.trials}"
    when = datetime.fromtimestamp(entry.last, UTC).strftime("%Y-%m-%d %H:%M") if entry.last else ""
    best = "damaged" if entry.damaged else entry.best
    cells = (entry.name, entry.strategy, entry.task, trials, best, when, _bytes(entry.size))
    return tuple(cell or "-" for cell in cells)


def _bytes(size: int) -> str:
    from rich.filesize import decimal

    return decimal(size)


@click.command()
@click.argument("name")
@storage_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, storage: str | None, yes: bool) -> None:
    """Delete a sweep with all that it keeps, for good; asks first, and refuses while it runs.

    NAME is a sweep of the storage, or has its own: s3://bucket/prefix/NAME. What an interrupted deletion has left is
    deleted by the next one.
    """
    from raysweep.history import inventory, lease, removal

    sweep, where = named(name, storage)
    folder = removal.sweep_at(sweep, where)
    last = lease.wait_until_free(folder, click.echo)
    size = _bytes(inventory.size(folder))
    if not yes:
        click.confirm(f"delete {folder.url} ({size}) for good?", abort=True)
    removal.delete(folder, last)
    click.echo(f"deleted {folder.url}: {size}")


@click.command()
@click.argument("name")
@storage_option
@click.option(
    "--keep", type=click.Choice(["best"]), required=True, help="best: those of the best trial, or of the Pareto front."
)
def prune(name: str, storage: str | None, keep: str) -> None:
    """Remove the checkpoints of an ended sweep but those of its best trial; its results stay.

    NAME is a sweep of the storage, or has its own: s3://bucket/prefix/NAME. A failed trial that is tried again
    afterwards begins anew.
    """
    from raysweep.history import removal

    sweep, where = named(name, storage)
    pruned = removal.prune(removal.sweep_at(sweep, where), click.echo)
    click.echo(
        f"removed the checkpoints of {pruned.trials} trials: {_bytes(pruned.size)}; kept: {', '.join(pruned.kept)}"
    )


COMMANDS = (results_, delete, prune)
