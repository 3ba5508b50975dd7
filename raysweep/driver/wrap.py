"""The job that runs a script: the command line of a strategy, with the script instead of a task.

    python -m raysweep.driver.wrap asha --space space.yaml --script 'python train.py --lr {lr}' --metric loss --mode min

`raysweep wrap` sends it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from raysweep.driver.main import command_of
from raysweep.errors import BadInput
from raysweep.spec import script_command, space_file
from raysweep.spec.flags import Flags
from raysweep.spec.sweep import strategy
from raysweep.spec.task import Task
from raysweep.trial.script import Script

NEEDED = ("metric", "mode", "max_iterations")  # flags that a task written in Python has defaults for


@dataclass(frozen=True)
class Wrapped:
    """A script, as the command line has it.

    Attributes:
        command: the words of its command line, with placeholders.
        space: the file of its search space.
        patterns: regular expressions with named groups, which find metrics in its output.
    """

    command: tuple[str, ...]
    space: Path
    patterns: tuple[str, ...] = ()

    def task(self, flags: Flags) -> Task:
        """The script as a task, whose command `preflight` checks.

        Raises:
            BadInput: all problems.
        """
        needed = [f"`--{name.replace('_', '-')}`: is not known of a script: give it" for name in NEEDED]
        problems = [problem for name, problem in zip(NEEDED, needed, strict=True) if getattr(flags, name) is None]
        problems += [problem for pattern in self.patterns for problem in script_command.pattern_problems(pattern)]
        space: dict[str, Any] = {}
        try:
            space = space_file.read(self.space)
        except BadInput as error:
            problems += error.problems
        if problems:
            raise BadInput(*problems)
        script = Script(self.command, self.patterns, flags.cleanup_timeout)
        return Task(script.__name__, script, space, str(flags.metric), str(flags.mode), flags.max_iterations or 1)


@click.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("name", metavar="STRATEGY")
@click.option("--space", type=click.Path(path_type=Path), required=True)
@click.option("--script", required=True)
@click.option("--pattern", "patterns", multiple=True)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(name: str, space: Path, script: str, patterns: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    """Runs as a job: the strategy's own command line takes the other flags."""
    wrapped = Wrapped(tuple(shlex.split(script)), space, patterns)
    job = command_of(strategy(name), wrapped.task, f"raysweep wrap --strategy {name}")
    job.main(list(arguments), prog_name=job.name)


if __name__ == "__main__":
    main()
