"""Where things are: the kit's own files, and the project that a command is for.

In a checkout, jobs/, tasks/, docker/ and k8s/ are beside the package `raysweep`; in a wheel, and in the code that
travels with a job, they are inside of it.
"""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).parent
HOME = PACKAGE if (PACKAGE / "jobs").is_dir() else PACKAGE.parent  # what has jobs/, docker/, k8s/ and uv.lock
PREFIX = "raysweep." if HOME == PACKAGE else ""  # of `jobs.asha` and `tasks.digits`, as modules
FOLDER = ".raysweep"  # of a project: its cluster's record and files; for this user only, see `clusters.lifecycle`
MARKS = (FOLDER, ".rayignore")  # a cluster of a project leaves the one, `raysweep init` writes the other


def is_checkout(folder: Path) -> bool:
    """Whether a folder is a clone of the kit's repository, or has all that a job needs of one."""
    inside = (folder / "raysweep" / "__init__.py").is_file() and (folder / "jobs").is_dir()
    return inside and not (folder / "raysweep" / "jobs").is_dir()


def project(here: Path) -> Path:
    """The folder of the project: the nearest one, from `here` upwards, that has a mark of one; else `here`.

    Above `here`, a home folder and what is above it is left out: a mark there, as of a try-out, would send all of it
    with every job. So is a mark that another user has made, as in /tmp: it could name a cluster of theirs.
    """
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 (that of Path fails for a user without a home)
    for folder in (here, *here.parents):
        if folder != here and (folder == home or folder in home.parents):
            break
        if is_checkout(folder) or any(_is_own(folder / mark) for mark in MARKS):
            return folder
    return here


def _is_own(mark: Path) -> bool:
    try:
        return mark.stat().st_uid == os.getuid()
    except OSError:
        return False


def overlay(project: Path, name: str) -> Path:
    """The folder of an overlay: the project's own k8s/overlays/NAME if there is one, else the kit's."""
    own = project / "k8s" / "overlays" / name
    return own if own.is_dir() else HOME / "k8s" / "overlays" / name
