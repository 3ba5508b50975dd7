"""The domains of a space from their description in sweep.json, where the space itself is not at hand."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Mapping
from typing import Any

from ray import tune
from ray.tune.search.sample import Domain, Float, Integer

from raysweep.spec.paths import KeyPath
from raysweep.spec.space import CONSTANT

_NUMBER = r"([^\s,()]+)"
_NUMBERS = re.compile(
    rf"(Float|Integer) \({_NUMBER}, {_NUMBER}\) (Uniform|LogUniform|Normal)"
    rf"(?: mean={_NUMBER} sd={_NUMBER})?(?: q={_NUMBER})?"
)
_CHOICES = re.compile(r"(?:Categorical (\[.*\]) Uniform|grid (\[.*\]))")


def domains(described: Mapping[str, str]) -> dict[KeyPath, Domain]:
    """The domain of each parameter that was sampled, by its path.

    A domain that its description does not tell, such as a function or a choice of classes, is `tune.sample_from`.

    Args:
        described: what `space.describe` has made of a space.
    """
    drawn = {name: line for name, line in described.items() if not line.startswith(f"{CONSTANT} ")}
    return {_path(name): _domain(line) for name, line in drawn.items()}


def _path(name: str) -> KeyPath:
    return tuple(int(part) if part.isdecimal() else part for part in name.split("/"))


def _domain(line: str) -> Domain:
    with contextlib.suppress(ValueError, SyntaxError):
        if found := _NUMBERS.fullmatch(line):
            return _numbers(*found.groups())
        if found := _CHOICES.fullmatch(line):
            return tune.choice(ast.literal_eval(found[1] or found[2]))
    return tune.sample_from(lambda _: None)


def _numbers(
    kind: str, lower: str, upper: str, scale: str, mean: str | None, sd: str | None, step: str | None
) -> Domain:
    domain: Any = (Integer if kind == "Integer" else Float)(_number(lower), _number(upper))
    if scale == "Normal":
        domain = domain.normal(_number(mean), _number(sd))
    else:
        domain = domain.loguniform() if scale == "LogUniform" else domain.uniform()
    return domain.quantized(_number(step)) if step else domain


def _number(text: str | None) -> float:
    try:
        return int(text or "")
    except ValueError:
        return float(text or "nan")
