"""The commands that send a sweep to a cluster: as a job, as a RayJob, and any script as a job."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from raysweep.clusters import lifecycle
from raysweep.errors import BadInput
from raysweep.local_commands import current_project, files, refuse_wrong, run, storage_option
from raysweep.spec import catalogue
from raysweep.spec.flags import Flags, default_name
from raysweep.submit import flag_check, ray_jobs, requirements, variables
from raysweep.submit.connection import ADDRESSES
from raysweep.submit.connection import storage as place
from raysweep.submit.request import JobRequest

_requirements = click.option(
    "--requirements",
    type=click.Path(path_type=Path),
    help="File of requirements that Ray installs on each node for this job, which takes a while: see the README.",
)
_env = click.option(
    "--env",
    "given",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="A variable for the driver and the trials, with this value or this shell's; shown nowhere. Repeatable.",
)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("strategy")
@click.option("--task", help="What is tuned: a file of tasks/, or your own module.")
@click.option("--name", help="Name of the sweep in the storage, and of the job.")
@storage_option
@files
@_requirements
@_env
@click.option("--follow/--no-follow", default=True, help="Print the log until the end (default), or return at once.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ANY FLAG OF THE JOB]...")
def submit(
    strategy: str,
    arguments: tuple[str, ...],
    requirements: Path | None,
    given: tuple[str, ...],
    follow: bool,
    **flags: str | None,
) -> None:
    """Run a strategy on the cluster, and exit with its code.

    Other flags are passed on to the job; `raysweep run STRATEGY -- --help` lists them. Ctrl-C detaches, and the
    job keeps running.
    """
    name = flags.pop("name")
    refuse_wrong(strategy, name)
    name = default_name(flags["task"] or Flags.task, strategy) if name is None else name
    request = JobRequest(
        strategy,
        name,
        arguments,
        task=flags["task"],
        storage=flags["storage"],
        data=flags["data"],
        points=flags["points"],
        requirements=_lines(requirements),
        variables=variables.parse(given),
    )
    _refuse_wrong_flags(request)
    sys.exit(ray_jobs.submit(current_project(), request, follow))


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("strategy")
@click.option("--task", help="What is tuned: a file of tasks/, or your own module.")
@click.option("--name", help="Name of the sweep in the storage: one that is continued has to be named.")
@storage_option
@files
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ANY FLAG OF THE JOB]...")
@click.pass_context
def check(ctx: click.Context, /, strategy: str, arguments: tuple[str, ...], **flags: str | None) -> None:
    """Say before a sweep whether it fits, how long it takes and what it costs: it is not started.

    Where it would run: on the project's cluster if there is one, else here. A few configurations are timed for an
    iteration or two, the smallest and the largest of the space among them. Prices are in prices.yaml: see the README.
    """
    project = current_project()
    if lifecycle.read(project) or any(os.environ.get(each) for each in ADDRESSES):
        ctx.invoke(submit, strategy=strategy, arguments=(*arguments, "--dry-run"), **flags)
    named = [word for key in ("task", "name") if (value := flags.pop(key)) is not None for word in (f"--{key}", value)]
    ctx.invoke(run, strategy=strategy, arguments=(*named, *arguments, "--dry-run"), **flags)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("strategy")
@click.option("--name", required=True, help="Name of the sweep in the storage; it is continued if it exists.")
@click.option("--storage", help="s3://bucket/prefix. Default: $RAYSWEEP_STORAGE, else the cluster's.")
@files
@_requirements
@click.option("--follow/--no-follow", default=True, help="Print the log until the end (default), or return at once.")
@click.option("--queue", help="Of Kueue: wait there until there is room for all workers, which do not scale then.")
@click.option("--priority", help="Of Kueue, with --queue: a WorkloadPriorityClass. A job of a lower one may give way.")
@_env
@click.option(
    "--deadline", type=click.IntRange(min=60), help="Seconds after which its cluster is ended. Default: a week."
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ANY FLAG OF THE JOB]...")
def rayjob(
    strategy: str,
    name: str,
    storage: str | None,
    data: str | None,
    points: str | None,
    requirements: Path | None,
    given: tuple[str, ...],
    arguments: tuple[str, ...],
    follow: bool,
    **limits: Any,
) -> None:
    """Run a strategy as a RayJob, on a Ray cluster of its own that is deleted with it.

    Results and log stay in the storage. A job that fails is retried on a new cluster, and continues its sweep.
    """
    from raysweep.submit import rayjob as rayjobs

    refuse_wrong(strategy, name)
    here = current_project()
    request = JobRequest(
        strategy,
        name,
        arguments,
        storage=place(here, storage),
        data=data,
        points=points,
        requirements=_lines(requirements),
        variables=variables.parse(given),
    )
    _refuse_wrong_flags(request)
    sys.exit(rayjobs.run(here, lifecycle.existing(here), request, rayjobs.Limits(**limits), follow))


class _BeforeScript(click.Command):
    """Has the words behind `--` apart from the flags, in `script` of the context."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Called by click with the words of the command line."""
        cut = args.index("--") if "--" in args else len(args)
        ctx.obj = tuple(args[cut + 1 :])
        return super().parse_args(ctx, args[:cut])


@click.command(
    cls=_BeforeScript,
    context_settings={"ignore_unknown_options": True},
    options_metavar="[ANY FLAG OF THE JOB]... -- COMMAND",
)
@click.option("--strategy", default="asha", show_default=True, help="A file of jobs/.")
@click.option("--space", required=True, help="YAML or JSON file of the search space: lr: {loguniform: [1e-4, 1e-1]}")
@click.option(
    "--pattern", "patterns", multiple=True, help="Finds metrics in the output: 'loss: (?P<loss>\\S+)'. Repeatable."
)
@click.option("--name", help="Name of the sweep in the storage, and of the job.")
@storage_option
@_requirements
@_env
@click.option("--follow/--no-follow", default=True, help="Print the log until the end (default), or return at once.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.pass_obj
def wrap(
    script: tuple[str, ...],
    strategy: str,
    space: str,
    patterns: tuple[str, ...],
    name: str | None,
    storage: str | None,
    requirements: Path | None,
    given: tuple[str, ...],
    follow: bool,
    arguments: tuple[str, ...],
) -> None:
    """Run any script as a sweep: on the project's cluster if there is one, else here.

    \b
    raysweep wrap --space space.yaml --metric loss --mode min --max-iterations 10 \\
        -- python train.py --lr {lr} --output {checkpoint}

    What it prints has the metrics: an object of JSON a line, such as {"epoch": 1, "loss": 0.5}, or what a --pattern
    finds. {checkpoint}, also in $RAYSWEEP_CHECKPOINT, is the folder that it saves to and resumes from.
    """  # noqa: D301 - click wants the character, not its name
    from raysweep.spec import script_command, space_file

    refuse_wrong(strategy, name)
    problems = script_command.problems(script, space_file.read(Path(space)))
    problems += [problem for pattern in patterns for problem in script_command.pattern_problems(pattern)]
    flags = ["--script", shlex.join(script), *(word for each in patterns for word in ("--pattern", each))]
    request = JobRequest(
        strategy,
        default_name(_name_of(script), strategy) if name is None else name,
        arguments,
        storage=storage,
        script=tuple(flags),
        space=space,
        requirements=_lines(requirements),
        variables=variables.parse(given),
    )
    project = current_project()
    if problems:
        raise BadInput(*problems)
    _refuse_wrong_flags(request)
    if lifecycle.read(project) or any(os.environ.get(each) for each in ADDRESSES):
        sys.exit(ray_jobs.submit(project, request, follow))
    click.echo("there is no cluster: it runs here", err=True)
    os.environ |= {key: value for key, value in request.variables.items() if value is not None}
    command = request.from_here(project, on_this_machine=True).command(project)
    os.chdir(project)
    os.execv(sys.executable, [sys.executable, *command[1:]])


def _name_of(script: tuple[str, ...]) -> str:
    from raysweep.trial.script import Script

    return Script(script).__name__ if script else ""


def _lines(file: Path | None) -> tuple[str, ...]:
    """The requirements of a file, if one is given."""
    return requirements.read(file) if file else ()


def _refuse_wrong_flags(request: JobRequest) -> None:
    if problems := flag_check.problems(catalogue.strategies(current_project())[request.strategy].path, request.flags):
        raise BadInput(*problems)


COMMANDS = (check, submit, rayjob, wrap)
