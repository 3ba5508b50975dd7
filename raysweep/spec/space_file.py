"""`--space FILE`: a search space in YAML or JSON, for a task that is no Python.

Each parameter has one of Ray's domains by its name, with its arguments, or is a constant:

    lr: {loguniform: [1e-4, 1e-1]}
    width: {choice: [32, 64, 128]}
    optimizer: {name: sgd, momentum: {uniform: [0, 0.99]}}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ray import tune
from ray.tune.search.sample import Domain

from raysweep.errors import BadInput
from raysweep.spec.flags import nearest
from raysweep.spec.yaml_loader import Loader

DOMAINS = (
    *("uniform", "quniform", "loguniform", "qloguniform", "randn", "qrandn"),
    *("randint", "qrandint", "lograndint", "qlograndint", "choice", "grid_search"),
)  # https://docs.ray.io/en/latest/tune/api/search_space.html
OF_ONE_LIST = ("choice", "grid_search")  # their only argument is the list itself


def read(path: Path) -> dict[str, Any]:
    """The search space of a YAML or JSON file.

    Raises:
        BadInput: it cannot be read, or a domain is wrong; all problems, by parameter.
    """
    try:
        space = yaml.load(path.read_text(), Loader=Loader)
    except OSError as error:
        raise BadInput(f"`--space {path}`: {error.strerror}: name a YAML or JSON file") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"`--space {path}`: not YAML or JSON: {' '.join(str(error).split())}") from error
    if not isinstance(space, dict) or not space:
        raise BadInput(f"`--space {path}`: must be a mapping, parameter: {{domain: arguments}}")
    problems: list[str] = []
    read = {key: _value(value, str(key), problems) for key, value in space.items()}
    if problems:
        raise BadInput(*(f"`--space {path}`: {problem}" for problem in problems))
    return read


def _value(value: Any, name: str, problems: list[str]) -> Any:
    if not isinstance(value, dict):
        return value
    key = next(iter(value), None)
    if len(value) == 1 and key in DOMAINS:
        return _domain(key, value[key], name, problems)
    if len(value) == 1 and isinstance(value[key], list) and (match := nearest(str(key), list(DOMAINS))):
        problems.append(f"`{name}`: `{key}` is no domain{match}: one of {', '.join(DOMAINS)}")
    return {inner: _value(each, f"{name}/{inner}", problems) for inner, each in value.items()}


def _domain(kind: str, arguments: Any, name: str, problems: list[str]) -> Domain | dict[str, Any] | None:
    if not isinstance(arguments, list):
        problems.append(f"`{name}`: {kind} has the arguments {arguments!r}: must be a list, as {{{kind}: [1, 10]}}")
        return None
    try:
        make = getattr(tune, kind)
        return make(arguments) if kind in OF_ONE_LIST else make(*arguments)
    except (TypeError, ValueError) as error:
        problems.append(f"`{name}`: {kind} does not take {arguments}: {error}")
        return None
