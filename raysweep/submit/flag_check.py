"""What is wrong with a job's flags, told before it is sent.

A strategy's own knobs are read from its file, which is parsed and not imported: here there need not be what it imports.
Their names are checked, and of the flags that all jobs have the values too; the job checks the rest when it starts.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from raysweep.spec.flags import command, knob


def problems(strategy: Path, arguments: Sequence[str]) -> list[str]:
    """What the job would say of these flags; empty if its file does not show which knobs it has."""
    if (knobs := _knobs(strategy)) is None:
        return []
    found: list[str] = []
    job = command("", knobs, lambda _flags, _knobs, problems: found.extend(problems), strategy.stem)
    try:
        job.main([word for word in arguments if word != "--help"], standalone_mode=False)
    except click.UsageError as error:
        found.append(f"{error.format_message()} See --help")
    return found


def _knobs(strategy: Path) -> type | None:
    """The names of a strategy's knobs as a dataclass, whose values may be any text.

    None if the file is not a strategy's, or its knobs come from elsewhere.
    """
    try:
        tree = ast.parse(strategy.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_main(node.func)]
    if len(calls) != 1 or calls[0].keywords or len(calls[0].args) not in (1, 2):
        return None
    if len(calls[0].args) == 1:
        return dataclasses.make_dataclass("Knobs", [])
    name = calls[0].args[1]
    own = [each for each in tree.body if isinstance(each, ast.ClassDef) and not each.bases]
    return next((_fields(each) for each in own if isinstance(name, ast.Name) and each.name == name.id), None)


def _is_main(function: ast.expr) -> bool:
    return ast.unparse(function) == "raysweep.main"


def _fields(knobs: ast.ClassDef) -> type:
    fields: list[tuple[str, Any, Any]] = []
    for each in knobs.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            is_switch = ast.unparse(each.annotation) == "bool"
            fields.append((each.target.id, bool, knob(False, "")) if is_switch else (each.target.id, str, knob("", "")))
    return dataclasses.make_dataclass(knobs.name, fields)
