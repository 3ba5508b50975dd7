"""The commands that look at one sweep, while it runs and afterwards: in the terminal, and in a browser."""

from __future__ import annotations

import sys

import click

from raysweep.clusters.shared import ports
from raysweep.errors import BadInput
from raysweep.local_commands import named, storage_option

VIEWERS = ("report", "tensorboard", "optuna-dashboard")


@click.command()
@click.argument("name")
@storage_option
@click.option("--once", is_flag=True, help="Show it as it is now, and return: for scripts and pipes.")
def watch(name: str, storage: str | None, once: bool) -> None:
    """Watch a sweep until it ends: its trials, the best, what is left, its places, the last failures.

    NAME is a sweep of the storage, or has its own: s3://bucket/prefix/NAME. Exit code: that of the sweep; with --once
    0 while it runs. Ctrl-C ends the view, and the sweep goes on.
    """
    from rich.console import Console

    from raysweep.viewing.watch import Watch

    view = Watch(*named(name, storage), Console())
    sys.exit(view.once() if once else view.to_the_end())


@click.command("open")
@click.argument("name")
@storage_option
@click.option("--with", "viewer", type=click.Choice(VIEWERS), default="report", show_default=True, help="The viewer.")
@click.option("--port", type=click.IntRange(1024, 65535), help="Port on 127.0.0.1. Default: a free one.")
def open_(name: str, storage: str | None, viewer: str, port: int | None) -> None:
    """Show a sweep in a browser on this machine until Ctrl-C, its cluster up or gone; kept up to date while it runs.

    NAME is a sweep of the storage, or has its own: s3://bucket/prefix/NAME.
    """
    if port and (problems := ports.problems({"--port": port})):
        raise BadInput(*problems)
    sweep, where = named(name, storage)

    def say(url: str) -> None:
        click.echo(f"{viewer} of {sweep}: {url}  (Ctrl-C ends it)")

    if viewer == "report":
        from raysweep.viewing.page import serve

        serve(sweep, where, port, say)
    else:
        from raysweep.viewing import programs

        programs.serve(viewer, sweep, where, port, say)


COMMANDS = (watch, open_)
