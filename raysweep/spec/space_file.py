"""`--space FILE`: a search space in YAML or JSON, for a task that is no Python; and any space written so.

Each parameter has one of Ray's domains by its name, with its arguments, or is a constant:

    lr: {loguniform: [1e-4, 1e-1]}
    width: {choice: [32, 64, 128]}
    optimizer: {name: sgd, momentum: {uniform: [0, 0.99]}}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from ray import tune
from ray.tune.search.sample import Categorical, Domain, Float, Integer, LogUniform, Normal, Quantized, Uniform

from raysweep.errors import BadInput
from raysweep.spec.flags import nearest
from raysweep.spec.space import describe, quantum, scale_of
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
    return parse(space, f"`--space {path}`")


def parse(written: dict[str, Any], place: str) -> dict[str, Any]:
    """The search space of a mapping in that format; `place` names its origin in messages.

    Raises:
        BadInput: a domain is wrong; all problems, by parameter.
    """
    problems: list[str] = []
    space = {key: _value(value, str(key), problems) for key, value in written.items()}
    if problems:
        raise BadInput(*(f"{place}: {problem}" for problem in problems))
    return space


def write(space: dict[str, Any]) -> dict[str, Any]:
    """The mapping that `parse` reads as the same space, in JSON's types.

    Raises:
        BadInput: a parameter cannot be written so, such as a `tune.sample_from`, or a choice of functions; by name.
    """
    written = {key: _written(value) for key, value in space.items()}
    try:
        copy = json.loads(json.dumps(written, allow_nan=False))
        same, told = describe(parse(copy, "space")), describe(space)
    except (TypeError, ValueError, BadInput):
        copy, same, told = {}, {}, describe(space)
    if wrong := [name for name, line in told.items() if same.get(name) != line] if copy else list(told):
        raise BadInput(
            f"the space cannot be written to a file: {', '.join(f'`{name}`' for name in wrong)} must be domains of"
            f" {', '.join(DOMAINS)}, of JSON's numbers and texts"
        )
    return written


def _written(value: Any) -> Any:
    if isinstance(value, Domain):
        return _written_domain(value)
    if isinstance(value, dict) and value.keys() != {"grid_search"}:
        return {key: _written(each) for key, each in value.items()}
    return value


def _written_domain(domain: Domain) -> Any:
    scale, q = scale_of(domain), quantum(domain) if isinstance(domain.get_sampler(), Quantized) else None
    steps, prefix = [] if q is None else [q], "" if q is None else "q"
    if isinstance(domain, Categorical):
        return {"choice": list(domain.categories)}
    if isinstance(scale, Normal):
        return {f"{prefix}randn": [scale.mean, scale.sd, *steps]}
    if not isinstance(domain, Float | Integer) or not isinstance(scale, Uniform | LogUniform):
        return None  # `write` says which it was
    kind = "uniform" if isinstance(domain, Float) else "randint"
    if isinstance(scale, LogUniform):
        return {f"{prefix}log{kind}": [domain.lower, domain.upper, *steps]}
    return {f"{prefix}{kind}": [domain.lower, domain.upper, *steps]}


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
