"""The command line: `raysweep` (or `python -m raysweep`) run in the project's folder, or in one inside of it.

Ray is imported inside the commands that need it: `--help` and `list` answer at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from raysweep import advice_commands, job_commands, kit, local_commands, study_commands, sweep_commands, view_commands
from raysweep.clusters import lifecycle
from raysweep.clusters.shared.s3_keys import environment
from raysweep.clusters.targets import TARGETS, Cluster, Options, load
from raysweep.errors import BadInput, ClusterError, RaysweepError
from raysweep.local_commands import current_project, named, storage_option, table
from raysweep.submit import ray_jobs
from raysweep.submit.connection import storage as place


class Group(click.Group):
    """Prints errors of this package as `error: …`, each problem on its own line, and exits with the error's code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RaysweepError as error:
            problems = error.problems if isinstance(error, BadInput) else (str(error),)
            for problem in problems:
                click.echo(f"error: {problem}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Run every Ray Tune strategy as a job, from a laptop to a GPU cluster.

    \b
    raysweep init                                          a task to start from
    raysweep run asha --task train                         a sweep here, without a cluster
    raysweep cluster up                                    a Ray cluster on this machine
    raysweep submit asha --task digits --name first        a sweep on it, followed to its end
    raysweep cluster down

    Exit code: 0 success; 1 it ran and failed; 2 bad input, and nothing was started.
    """  # noqa: D301 - click wants the character, not its name


for _room in (local_commands, job_commands, sweep_commands, study_commands, view_commands, advice_commands):
    for _command in _room.COMMANDS:
        cli.add_command(_command)


@cli.group("cluster")
def cluster_group() -> None:
    """Start and stop the Ray cluster of this project."""


@cluster_group.command()
@click.option("--target", type=click.Choice(TARGETS), default="local", show_default=True, help="Where it runs.")
@click.option("--port", type=int, help="local: port of `ray.init`. Default: 6379.")
@click.option("--dashboard-port", type=int, help="Port of the dashboard and the jobs. Default: 8265.")
@click.option("--s3-port", type=int, help="Port of the S3 store. Default: 8333.")
@click.option("--workers", type=int, help="Nodes that run trials; the most of them where they come and go.")
@click.option("--num-cpus", type=click.IntRange(min=1), help="CPUs that Ray may hand out, on each node. Default: all.")
@click.option("--memory", help="Limit of each worker. Default: 4g; Kubernetes: the overlay's, such as 4Gi.")
@click.option("--gpus", is_flag=True, default=None, help="docker: give this machine's GPUs to the workers.")
@click.option("--context", help="k8s: context of the kubeconfig. Default: the current one.")
@click.option("--overlay", help="k8s: a folder of k8s/overlays, or your own. Default: gpu.")
def up(target: str, **options: Any) -> None:
    """Start the cluster; harmless if it is up.

    Behind a token (.raysweep/token); the targets local and docker are reached from this machine only.
    """
    began = time.monotonic()
    cluster, was_up = lifecycle.up(current_project(), target, Options(**options))
    state = "is already up" if was_up else f"is up after {time.monotonic() - began:.1f} s"
    click.echo(f"the {cluster.target} cluster {state}\n{_addresses(cluster)}")
    if was_up and (given := [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]):
        click.echo(
            f"{', '.join(given)}: changed nothing, since it was up; `raysweep cluster scale N` changes the number of"
            " workers, everything else is for `raysweep cluster down` and `raysweep cluster up`"
        )


@cluster_group.command()
@click.option("--volumes", is_flag=True, help="Remove what its S3 store holds, too.")
@click.option("--forget", is_flag=True, help="Only drop the record of a cluster that can no longer be reached.")
def down(volumes: bool, forget: bool) -> None:
    """Stop the cluster and whatever runs on it; harmless if there is none. The sweeps' storage stays."""
    began = time.monotonic()
    ended = lifecycle.down(current_project(), volumes, forget)
    if ended is None:
        click.echo("there is no cluster: nothing to do")
        return
    cluster, what = ended
    click.echo(f"the {cluster.target} cluster is down after {time.monotonic() - began:.1f} s: {what} ended")


@cluster_group.command()
@click.argument("workers", type=int)
def scale(workers: int) -> None:
    """Change the number of nodes that run trials; the other nodes are not affected."""
    lifecycle.scale(current_project(), workers)
    click.echo(f"the cluster has {workers} workers")


@cluster_group.command("logs")
@click.option("--follow/--no-follow", default=False, help="Keep printing until Ctrl-C.")
def cluster_logs(follow: bool) -> None:
    """Print the end of the logs of the cluster's own processes; `raysweep logs` is for jobs."""
    sys.exit(lifecycle.logs(current_project(), follow))


@cluster_group.command("status")
def cluster_status() -> None:
    """Say whether the cluster is up, and how to reach it. Exit code 0 if it is, 1 if not."""
    cluster, healthy = lifecycle.status(current_project()) or (None, False)
    if cluster is None:
        click.echo("there is no cluster: start one with `raysweep cluster up`")
    elif not healthy:
        restarts = "brings it up again" if load(cluster.target).lasting else "replaces it"
        click.echo(f"the {cluster.target} cluster has died: `raysweep cluster up --target {cluster.target}` {restarts}")
    else:
        click.echo(f"the {cluster.target} cluster is up\n{_addresses(cluster)}")
    if cluster:
        click.echo("".join(f"  {line}\n" for line in load(cluster.target).parts(cluster)), nl=False)
    sys.exit(0 if healthy else 1)


@cli.command()
def dashboard() -> None:
    """Print the dashboard's address and how to log in; restarts the port forward if it has ended."""
    cluster = lifecycle.existing(current_project())
    if not load(cluster.target).healthy(cluster):
        raise ClusterError(f"the {cluster.target} cluster does not answer: see `raysweep cluster status`")
    click.echo(f"{cluster.dashboard}  log in: paste the token of {cluster.token_path}")


@cli.command()
@click.argument("name", required=False)
def status(name: str | None) -> None:
    """List the jobs, newest first; with NAME those of that sweep, and why they failed if they have no exit code."""
    jobs = ray_jobs.jobs(current_project(), name)
    rows: list[tuple[str, ...]] = [("JOB", "STATUS", "EXIT", "SECONDS", "TASK", "NAME")]
    for job in jobs:
        seconds = f"{(job.ended or time.time()) - job.started:.0f}"
        code = "" if job.exit_code is None else str(job.exit_code)
        rows.append((job.id, job.status, code, seconds, job.task, job.name))
    click.echo(table(rows) if jobs else "no jobs")
    for reason in [job.reason for job in jobs if name and job.reason]:
        click.echo(f"error: {reason}", err=True)


@cli.command()
@click.argument("job")
@click.option("--follow/--no-follow", default=False, help="Keep printing until the job ends; exit with its code.")
@click.option("--trial", metavar="NUMBER", help="Print what this trial of the sweep JOB has printed, instead.")
@storage_option
def logs(job: str, follow: bool, trial: str | None, storage: str | None) -> None:
    """Print the log of a job, or what one of its trials has printed.

    JOB is a submission id, or the name of a sweep: its newest job. If no cluster answers, the log is read from the
    storage; with --storage at once. With --trial it is the name of a sweep in the storage, whose cluster may be
    gone; --follow then ends with the trial.
    """
    if trial is not None:
        _trial_log(job, trial, place(current_project(), storage), follow)
    elif storage is not None:
        sys.exit(ray_jobs.stored_logs(job, place(current_project(), storage), follow))
    else:
        sys.exit(ray_jobs.logs(current_project(), job, follow))


def _trial_log(name: str, number: str, where: str, follow: bool) -> None:
    from raysweep.history import log_reader, results

    found = results.read(name, where)
    trial = log_reader.trial_of(found, number)
    if follow:
        for lines in log_reader.follow(name, where, trial):
            click.echo(lines, nl=False)
    elif text := found.logs(trial):
        click.echo(text.removesuffix("\n"))
    else:
        click.echo(f"trial {trial} has printed nothing so far", err=True)


@cli.command()
@click.argument("job")
def stop(job: str) -> None:
    """Stop a job; the sweep saves itself first.

    JOB is a submission id, or the name of a sweep: its newest job.
    """
    ended, was_running = ray_jobs.stop(current_project(), job)
    click.echo(f"{ended.id}: {ended.status}" + ("" if was_running else " (it had ended before)"))


@cli.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@storage_option
@click.option("--output", type=click.Path(path_type=Path), help="Write the page here, and not beside the results.")
def report(names: tuple[str, ...], storage: str | None, output: Path | None) -> None:
    """Write the page of a sweep, running or ended; of several sweeps, one page.

    NAME is a sweep of the storage, or has its own: s3://bucket/prefix/NAME. The page is report.html beside the
    sweep's results; of several sweeps it is report.html in this folder.
    """
    from raysweep.history import results
    from raysweep.reporting.write import NAME, page_of
    from raysweep.storage import open_storage

    if output and not output.absolute().parent.is_dir():
        raise BadInput(f"`--output {output}`: {output.absolute().parent} is no folder: make it, or choose another file")
    sweeps = [results.read(*named(name, storage)) for name in names]
    page = page_of(sweeps)
    if output or len(sweeps) > 1:
        path = output or Path(NAME)
        path.write_bytes(page)
        click.echo(f"wrote {path.absolute()}")
    else:
        open_storage(sweeps[0].url).put(NAME, page)
        click.echo(f"wrote {sweeps[0].url}/{NAME}")
    for problem in [problem for sweep in sweeps for problem in sweep.damage]:
        click.echo(f"warning: the page lacks what is damaged: {problem}", err=True)


@cli.command("predict")
@click.argument("name")
@storage_option
@click.option("--image", type=click.Path(path_type=Path), help="A picture, such as a PNG of a digit.")
@click.option("--array", type=click.Path(path_type=Path), help="An .npy file of one or more inputs.")
def predict_(name: str, storage: str | None, image: Path | None, array: Path | None) -> None:
    """Predict with the best checkpoint of a sweep: class and probability of each input."""
    from raysweep.history import results
    from raysweep.history.predict import predict

    project = current_project()
    sweep_results = results.read(name, place(project, storage))
    for problem in sweep_results.damage:
        click.echo(f"warning: the best trial may be a lost one: {problem}", err=True)
    inputs = [path and path.absolute() for path in (image, array)]
    with contextlib.chdir(project):  # where the task's module is found
        for prediction in predict(sweep_results, *inputs):
            click.echo(f"class {prediction.label}  probability {prediction.probability:.3f}")


@cli.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--to", help="A folder or s3://bucket/prefix. Default: data/FOLDER in the storage.")
@storage_option
def upload(folder: Path, to: str | None, storage: str | None) -> None:
    """Copy a data set into the storage, where the cluster's jobs can read it."""
    from raysweep.storage.dataset import upload

    here = current_project()
    where = place(here, to) if to else f"{place(here, storage)}/data/{folder.resolve().name}"
    keys = upload(folder, where)
    click.echo(f"{len(keys)} files uploaded; give jobs `--data {where}`")


def _addresses(cluster: Cluster) -> str:
    plain = _plain_ray(cluster)
    return f"""\
  dashboard   {cluster.dashboard}
  log in      paste the token: cat {os.path.relpath(cluster.token_path)}
  storage     {cluster.storage}
  submit      raysweep submit asha --task digits{", or with plain Ray:" if plain else ""}
    export RAY_API_SERVER_ADDRESS={cluster.dashboard}
    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={cluster.token_path}
{plain}{_outside(cluster)}"""


def _plain_ray(cluster: Cluster) -> str:
    """How plain Ray submits a job: it brings no kit, so the project is a checkout, or the node has the kit."""
    if kit.is_checkout(current_project()):
        return "    ray job submit --working-dir . -- python jobs/asha.py --task digits\n"
    if cluster.target == "local":
        return "    ray job submit --working-dir . -- python -m raysweep.jobs.asha --task digits\n"
    return ""


def _outside(cluster: Cluster) -> str:
    """Variables for programs outside of a job: `ray.init` in a notebook, or boto3."""
    if cluster.endpoint:
        settings = environment(cluster.endpoint, Path(cluster.credentials_path))
        return (
            "".join(f"    export {name}={value}\n" for name, value in settings.items()) + "    # only for boto3, aws …"
        )
    flags = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 " if cluster.target == "local" else ""
    return f"    export {flags}RAY_ADDRESS={cluster.address}    # only for ray.init() outside of a job"
