"""The job that runs a script: the command line of a strategy, with the script instead of a task.

    python -m raysweep.driver.wrap asha --space space.yaml --script 'python train.py --lr {lr}' --metric loss --mode min

`raysweep wrap` sends it. A placeholder is a parameter's name, or one of `trial.script.OWN`; `str.format` fills them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

import click

from raysweep.driver.main import command_of
from raysweep.errors import BadInput
from raysweep.spec import space_file
from raysweep.spec.configuration import parameters
from raysweep.spec.flags import Flags, nearest
from raysweep.spec.paths import name_of
from raysweep.spec.sweep import strategy
from raysweep.spec.task import Task
from raysweep.trial.script import OWN, Script
from raysweep.values import flat

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
        """The script as a task.

        Raises:
            BadInput: all problems.
        """
        problems = [
            f"`--{name.replace('_', '-')}`: is not known of a script: give it"
            for name in NEEDED
            if getattr(flags, name) is None
        ]
        problems += [problem for pattern in self.patterns for problem in _pattern_problems(pattern)]
        space: dict[str, Any] = {}
        try:
            space = space_file.read(self.space)
            problems += _command_problems(self.command, space)
        except BadInput as error:
            problems += error.problems
        if problems:
            raise BadInput(*problems)
        assert flags.metric is not None
        assert flags.mode is not None
        assert flags.max_iterations is not None
        script = Script(self.command, self.patterns, flags.cleanup_timeout)
        return Task(script.__name__, script, space, flags.metric, flags.mode, flags.max_iterations)


def _pattern_problems(pattern: str) -> list[str]:
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        return [f"`--pattern {pattern}`: is no regular expression: {error}"]
    fix = "write (?P<loss>[0-9.]+) for the metric `loss`"
    return [] if groups else [f"`--pattern {pattern}`: must have a named group: {fix}"]


def _command_problems(command: Sequence[str], space: dict[str, Any]) -> list[str]:
    if not command:
        return ["there is no command: end the line with `-- python train.py --lr {lr}`"]
    try:
        used = {field for word in command for _, field, _, _ in Formatter().parse(word) if field is not None}
    except ValueError as error:
        return [f"the command `{shlex.join(command)}`: {error}: double each brace that is the script's own"]
    known = [*dict.fromkeys([*flat(space), *map(name_of, parameters(space))]), *OWN]
    problems = [
        f"`{{{field}}}` in the command: must be a parameter of the space{nearest(field, known)}, one of"
        f" {', '.join(known)}; double a brace that is the script's own"
        for field in sorted(used.difference(known))
    ]
    problems += [
        f"parameter `{name}`: in a command, the name stands for something else: rename it"
        for name in OWN
        if name in space
    ]
    if "config" not in used:
        problems += [
            f"parameter `{name}`: the command does not have it: add {{{name}}}, or {{config}}, a JSON file with all of"
            " them"
            for name in map(name_of, parameters(space))
            if name not in used
        ]
    return problems


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
