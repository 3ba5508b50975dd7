"""`--points FILE`: configurations to try first; for some the metric's value may be known already.

The file is a list in YAML or JSON. An item is a configuration, or `{config: {…}, value: 0.97}` if the metric's value
is known: a searcher then learns from it without running a trial.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from raysweep.errors import BadInput
from raysweep.spec.flags import nearest
from raysweep.spec.space import allows, domains, grids, quantum
from raysweep.values import flat, is_number


@dataclass(frozen=True)
class Point:
    """A configuration to try; `value` is the metric's value, if it is known."""

    config: dict[str, Any]
    value: float | None = None


def read(path: Path, space: dict[str, Any]) -> list[Point]:
    """The points of a file.

    Raises:
        BadInput: one line per wrong item, with the file, the line and the key.
    """
    try:
        text = path.read_text()
        items, tree = yaml.safe_load(text), yaml.compose(text)
    except UnicodeDecodeError as error:
        raise BadInput(f"`--points {path}`: not YAML or JSON: must be text in UTF-8") from error
    except OSError as error:
        raise BadInput(f"`--points {path}`: {error.strerror}: name a YAML or JSON file") from error
    except yaml.YAMLError as error:
        raise BadInput(f"`--points {path}`: not YAML or JSON: {' '.join(str(error).split())}") from error
    if not isinstance(items, list):
        raise BadInput(f"`--points {path}`: line 1: must be a list of configurations, not a {type(items).__name__}")
    assert tree is not None
    places = [f"`--points {path}`: line {node.start_mark.line + 1}" for node in tree.value]
    return parse(items, space, places)


def parse(items: list[Any], space: dict[str, Any], places: list[str] | None = None) -> list[Point]:
    """The points of a list of configurations; `places` names the origin of each in messages.

    Raises:
        BadInput: all problems together.
    """
    places = places or [f"`points[{i}]`" for i in range(len(items))]
    parameters = {**domains(space), **grids(space)}
    problems: list[str] = []
    points = []
    for place, item in zip(places, items, strict=True):
        if not isinstance(item, dict):
            problems.append(f"{place}: must be a configuration (key: value), not {item!r}")
            continue
        point, key_problems = _point(item)
        problems += [f"{place}: {problem}" for problem in [*key_problems, *_problems(point, parameters)]]
        points.append(point)
    if problems:
        raise BadInput(*problems)
    return points


def _point(item: dict[str, Any]) -> tuple[Point, list[str]]:
    """The point of an item, and the problems with its keys other than `config`."""
    if not isinstance(item.get("config"), dict):
        return Point(item), []
    unknown = [key for key in item if key not in ("config", "value")]
    problems = [f"`{key}` is not allowed beside `config`, only `value` is{nearest(key, ['value'])}" for key in unknown]
    return Point(item["config"], item.get("value")), problems


def _problems(point: Point, parameters: dict[str, Any]) -> list[str]:
    problems = []
    for key, value in flat(point.config).items():
        domain = parameters.get(key)
        if domain is None:
            problems.append(f"`{key}` is not in the search space{nearest(key, list(parameters))}")
        elif allowed := _violated_domain(domain, value):
            problems.append(f"`{key}` is {value!r}, outside of {allowed}")
    if point.value is not None:
        if isinstance(point.value, bool) or not is_number(point.value):
            problems.append(f"`value` is {point.value!r}: must be a finite number")
        missing = [key for key in parameters if key not in flat(point.config)]
        problems += [f"`{key}` is missing: a known value needs the whole configuration" for key in missing]
    return problems


def _violated_domain(domain: Any, value: Any) -> str | None:
    """The allowed values of a domain or a grid, as text, if `value` is not one of them."""
    if isinstance(domain, list):
        return None if value in domain else str(domain)
    if allows(domain, value):
        return None
    step = quantum(domain)
    return str(domain.domain_str) + ("" if step is None else f" in steps of {step:g}")
