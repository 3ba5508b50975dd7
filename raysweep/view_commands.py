"""The commands that look at one sweep, while it runs and afterwards: in the terminal, and in a browser."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_fixed

from raysweep.clusters.shared import ports
from raysweep.errors import BadInput, ClusterError, StorageError
from raysweep.local_commands import current_project, named, storage_option
from raysweep.submit import ray_jobs

if TYPE_CHECKING:
    from raysweep.viewing.watch import Watch

VIEWERS = ("report", "tensorboard", "optuna-dashboard")


@click.command()
@click.argument("name")
@storage_option
@click.option("--once", is_flag=True, help="Show it as it is now, and return: for scripts and pipes.")
def watch(name: str, storage: str | None, once: bool) -> None:
    """Watch a sweep until it ends: its trials, the best, what is left, its places, the last failures.

    NAME is a sweep of the storage, or has its own: s3://bucket/prefix/NAME. One whose job has just been submitted is
    waited for. Exit code: that of the sweep; with --once 0 while it runs. Ctrl-C ends the view, and the sweep goes on.
    """
    view = _begun(*named(name, storage))
    sys.exit(view.once() if once else view.to_the_end())


def _begun(name: str, storage: str) -> Watch:
    """The view of a sweep; if it has stored nothing yet, but its job is there, as soon as it has."""
    from rich.console import Console

    from raysweep.viewing.watch import Watch

    def missing(error: BaseException) -> bool:
        return isinstance(error, BadInput) and _has_a_job(name)

    def say(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            click.echo(f"{name} has not begun yet: its job is on the way", err=True)

    waiting = Retrying(retry=retry_if_exception(missing), wait=wait_fixed(1), before_sleep=say, reraise=True)
    return waiting(Watch, name, storage, Console())


def _has_a_job(name: str) -> bool:
    """Whether the project's cluster, if there is one, has a job of this sweep that has not ended."""
    with contextlib.suppress(BadInput, ClusterError, StorageError):
        return any(not job.over for job in ray_jobs.jobs(current_project(), name))
    return False


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
