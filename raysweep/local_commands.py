"""The commands that need no cluster: a task to start from, a sweep here, what there is, the images."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from raysweep import env, kit
from raysweep.clusters.shared import images
from raysweep.errors import BadInput
from raysweep.spec import catalogue, new_task
from raysweep.spec.flags import name_problems, nearest
from raysweep.submit.connection import storage as place
from raysweep.submit.request import absolute


def current_project() -> Path:
    """The project's folder: this one, or one above it."""
    return kit.project(Path.cwd())


def refuse_wrong(strategy: str, name: str | None) -> None:
    """Of a job that is to be sent, what is known to be wrong before it is: its name is a folder of the storage."""
    known, problems = list(catalogue.strategies(current_project())), name_problems(name)
    if strategy not in known:
        unknown = f"there is no strategy `{strategy}`{nearest(strategy, known)}: choose one of {', '.join(known)}"
        problems = [unknown, *problems]
    if problems:
        raise BadInput(*problems)


def named(name: str, storage: str | None) -> tuple[str, str]:
    """A sweep's name and its storage; the name may have its own, as in s3://bucket/prefix/NAME.

    Raises:
        BadInput: there are two storages.
    """
    parent, _, last = name.rstrip("/").rpartition("/")
    if parent and storage is not None:
        raise BadInput(f"`{name}` has its own storage: leave out `--storage {storage}`")
    return last, place(current_project(), parent or storage)


storage_option = click.option(
    "--storage", help="A folder or s3://bucket/prefix. Default: $RAYSWEEP_STORAGE, else the cluster's."
)


def files(command: Any) -> Any:
    """Adds the flags of a job that name files, which are relative to where the user stands."""
    command = click.option("--points", help="YAML or JSON file of configurations to try first.")(command)
    return click.option("--data", help="The task's data: a folder or s3://bucket/prefix.")(command)


@click.command()
@click.argument("name", default="train")
def init(name: str) -> None:
    """Write a task to start from: NAME.py, and a .rayignore.

    NAME may be a module of a package, such as mypkg.train.
    """
    for path in new_task.write(Path.cwd(), name):
        click.echo(f"wrote {path.relative_to(Path.cwd())}")
    click.echo(f"next: raysweep run asha --task {name}, or on a cluster: raysweep cluster up; raysweep submit asha …")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("strategy")
@click.option("--storage", help="A folder or s3://bucket/prefix. Default: $RAYSWEEP_STORAGE, else the folder runs.")
@files
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ANY FLAG OF THE JOB]...")
def run(strategy: str, arguments: tuple[str, ...], **places: str | None) -> None:
    """Run a strategy here, without a cluster: the same as `python jobs/STRATEGY.py`.

    `raysweep run STRATEGY -- --help` lists its flags.
    """
    refuse_wrong(strategy, None)
    project = current_project()
    given = [word for flag, path in places.items() if path is not None for word in (f"--{flag}", _here(path))]
    script = catalogue.strategies(project)[strategy].path.absolute()
    os.chdir(project)
    os.execv(sys.executable, [sys.executable, str(script), *given, *arguments])


def _here(path: str) -> str:
    """A relative folder as an absolute one; an empty text stays one, which the job refuses."""
    return (absolute(path) or "") if path else ""


@click.command("list")
def list_() -> None:
    """List the strategies and the tasks: the kit's, and those of this folder."""
    for title, find in (("strategies", catalogue.strategies), ("tasks", catalogue.tasks)):
        click.echo(f"{title}:")
        found = find(current_project()).items()
        click.echo(table([(f"  {name}", "" if each.is_kits else "yours", each.about) for name, each in found]))


@click.command()
@click.option("--base-image", help="What the images begin with, such as debian:bookworm-slim without GPUs.")
@click.option(
    "--ca-bundle",
    type=click.Path(path_type=Path),
    envvar=env.SSL_CERT_FILE,
    help="Certificates to trust meanwhile, behind a TLS proxy. Default: $SSL_CERT_FILE.",
)
def image(base_image: str | None, ca_bundle: Path | None) -> None:
    """Build the image of all clusters in containers, and that of their S3 store, with docker."""
    images.build(base_image, ca_bundle)


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows as text, their columns aligned."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


COMMANDS = (init, run, list_, image)
