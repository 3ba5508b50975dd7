"""Writes a task to start from, for `raysweep init`."""

from __future__ import annotations

import sys
from pathlib import Path

from raysweep.errors import BadInput

TASK = '''\
"""What is tuned: replace the step of `train` by an epoch of your own training.

    raysweep run asha --task {name}
"""

from ray import tune

import raysweep

SPACE = {{"lr": tune.loguniform(1e-3, 1.0), "momentum": tune.uniform(0.0, 0.9)}}
METRIC, MODE = "loss", "min"
MAX_ITERATIONS = 10


def train(config):
    """One trial: `config` has a value for each name of SPACE."""
    x, speed = raysweep.resume() or (1.0, 0.0)  # what was saved last, or the beginning
    for _ in raysweep.iterations():
        speed = config["momentum"] * speed - config["lr"] * 2 * x  # down the slope of x * x
        x += speed
        raysweep.report({{"loss": x * x}}, state=(x, speed))
'''
IGNORED = """\
# What a job does not need, as in .gitignore: it is not sent. Nor is what .gitignore names, .git, .venv and runs/.
/data/
"""


def write(folder: Path, name: str) -> list[Path]:
    """Writes the task NAME, a module of the folder, and a .rayignore if there is none.

    Returns:
        The files that were written.

    Raises:
        BadInput: it is no name of a module, or there is such a file already.
    """
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts) or parts[0] in sys.stdlib_module_names:
        raise BadInput(f"`{name}`: must be the name of a module of yours, such as train or mypkg.train: choose another")
    path = folder.joinpath(*parts).with_suffix(".py")
    if path.exists():
        raise BadInput(f"`{name}`: {path} exists already, and is not overwritten: choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TASK.format(name=name))
    ignore = folder / ".rayignore"
    if ignore.exists():
        return [path]
    ignore.write_text(IGNORED)
    return [path, ignore]
