"""The command line of a script as a task: words with placeholders, which `str.format` fills for each trial."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from raysweep.spec.configuration import parameters
from raysweep.spec.flags import nearest
from raysweep.spec.paths import name_of
from raysweep.values import flat

OWN = ("checkpoint", "config", "max_iterations")  # placeholders that are no parameters


def problems(command: Sequence[str], space: Mapping[str, Any]) -> list[str]:
    """What is wrong with a command for a search space: each parameter must be in it, and no other placeholder."""
    if not command:
        return ["there is no command: end the line with `-- python train.py --lr {lr}`"]
    try:
        used = {field for word in command for _, field, _, _ in Formatter().parse(word) if field is not None}
    except ValueError as error:
        return [f"the command `{shlex.join(command)}`: {error}: double each brace that is the script's own"]
    searched = [name_of(path) for path in parameters(space)]
    known = [*dict.fromkeys([*flat(dict(space)), *searched]), *OWN]
    found = [
        f"`{{{field}}}` in the command: must be a parameter of the space{nearest(field, known)}, one of"
        f" {', '.join(known)}; double a brace that is the script's own"
        for field in sorted(used.difference(known))
    ]
    found += [
        f"parameter `{name}`: in a command, the name stands for something else: rename it"
        for name in OWN
        if name in space
    ]
    missing = [] if "config" in used else [name for name in searched if name not in used]
    found += [
        f"parameter `{name}`: the command does not have it: add {{{name}}}, or {{config}}, a JSON file with all of them"
        for name in missing
    ]
    return found


def pattern_problems(pattern: str) -> list[str]:
    """What is wrong with an expression that is to find metrics in a script's output."""
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        return [f"`--pattern {pattern}`: is no regular expression: {error}"]
    fix = "write (?P<loss>[0-9.]+) for the metric `loss`"
    return [] if groups else [f"`--pattern {pattern}`: must have a named group: {fix}"]
