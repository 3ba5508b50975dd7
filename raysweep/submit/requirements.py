"""A file of requirements, which Ray installs on each node for one job: read here, sent as its lines.

Ray gives the job an environment of its own, by pip, on top of the packages that a node has. No line may be an option of
pip: a path in it would be this machine's, and an index with a password would be in the job's description.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from packaging.requirements import InvalidRequirement, Requirement

from raysweep.errors import BadInput


def read(path: Path) -> tuple[str, ...]:
    """The requirements of a file, a line each; a lock with hashes will do.

    Raises:
        BadInput: it cannot be read, has none, or has lines that are none; all of them.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"`--requirements {path}`: cannot be read ({error}): name a file such as requirements.txt"
        ) from error
    # As pip has it: a line goes on after a backslash, and a comment begins after a space.
    lines = [line.partition(" #")[0].strip() for line in text.replace("\\\n", " ").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    problems = [f"`--requirements {path}`: `{_shown(line)}` {why}" for line in lines if (why := _problem(line))]
    if not lines:
        problems = [f"`--requirements {path}`: it has no requirements: write one a line, such as `einops>=0.8`"]
    if problems:
        raise BadInput(*problems)
    return tuple(" ".join(line.split()) for line in lines)


def runtime_env(lines: tuple[str, ...]) -> dict[str, Any]:
    """What to ask of Ray for them; nothing for none."""
    return {"pip": {"packages": list(lines), "pip_check": False}} if lines else {}


def announce(lines: tuple[str, ...], on_this_machine: bool, on_kubernetes: bool) -> None:
    """Says what they cost."""
    if not lines:
        return
    click.echo(f"requirements: each node installs {len(lines)} of them before its first trial of this job")
    if on_this_machine and sys.prefix != sys.base_prefix:
        click.echo(f"  in a copy of {sys.prefix}, since Ray copies a virtual environment as a whole")
    if on_kubernetes:
        click.echo(
            "  the kit's network policies open no way to a package index: it needs one of yours, or your own image"
        )


def _shown(line: str) -> str:
    """A line, but none of an address in it, which may hold a password."""
    return line if "://" not in line else line.split()[0].partition("://")[0].partition("=")[0]


def _problem(line: str) -> str | None:
    if line.startswith("-"):
        return "is an option of pip, which is not passed on: write the requirements themselves"
    try:
        url = Requirement(line.partition(" --hash")[0]).url
    except InvalidRequirement:
        return "is no requirement: write it like `einops>=0.8`"
    where = urlsplit(url or "")
    if where.password or (where.username and "ssh" not in where.scheme):
        return "has an address with a password, which would be in the job's description: leave it out"
    return None
