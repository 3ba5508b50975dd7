"""`--points FILE`: configurations to try first, some perhaps with a value that is known already.

The file is YAML or JSON, a list. An item is a configuration, or `{config: {…}, value: 0.97}` where the
metric's value is known: a searcher then learns from it without a trial.
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
    """A configuration to try; `value` is the metric's value where it is known."""

    config: dict[str, Any]
    value: float | None = None


def read(path: Path, space: dict[str, Any]) -> list[Point]:
    """The points of a file.

    Raises:
        BadInput: each wrong item with the file, its line and the key.
    """
    try:
        text = path.read_text()
        items, tree = yaml.safe_load(text), yaml.compose(text)
    except UnicodeDecodeError as error:
        raise BadInput(f"`--points {path}`: not YAML or JSON: it is not text in UTF-8") from error
    except OSError as error:
        raise BadInput(f"`--points {path}`: {error.strerror}: name a YAML or JSON file") from error
    except yaml.YAMLError as error:
        raise BadInput(f"`--points {path}`: not YAML or JSON: {' '.join(str(error).split())}") from error
    if not isinstance(items, list):
        raise BadInput(f"`--points {path}`: line 1: a list of configurations is wanted, not a {type(items).__name__}")
    assert tree is not None
    places = [f"`--points {path}`: line {node.start_mark.line + 1}" for node in tree.value]
    return parse(items, space, places)


def parse(items: list[Any], space: dict[str, Any], places: list[str] | None = None) -> list[Point]:
    """The points of a list of configurations; `places` says where each stands, for the message.

    Raises:
        BadInput: everything that is wrong, together.
    """
    places = places or [f"`points[{i}]`" for i in range(len(items))]
    drawn = {**domains(space), **grids(space)}
    problems: list[str] = []
    points = []
    for place, item in zip(places, items, strict=True):
        if not isinstance(item, dict):
            problems.append(f"{place}: a configuration (key: value) is wanted, not {item!r}")
            continue
        point, beside = _point(item)
        problems += [f"{place}: {problem}" for problem in [*beside, *_problems(point, drawn)]]
        points.append(point)
    if problems:
        raise BadInput(*problems)
    return points


def _point(item: dict[str, Any]) -> tuple[Point, list[str]]:
    """The point that an item means, and what is wrong with its keys beside `config`."""
    if not isinstance(item.get("config"), dict):
        return Point(item), []
    unknown = [key for key in item if key not in ("config", "value")]
    problems = [f"`{key}` stands beside `config`, where only `value` may{nearest(key, ['value'])}" for key in unknown]
    return Point(item["config"], item.get("value")), problems


def _problems(point: Point, drawn: dict[str, Any]) -> list[str]:
    found = []
    for key, value in flat(point.config).items():
        domain = drawn.get(key)
        if domain is None:
            found.append(f"`{key}` is not in the search space{nearest(key, list(drawn))}")
        elif allowed := _missed(domain, value):
            found.append(f"`{key}` is {value!r}, outside of {allowed}")
    if point.value is not None:
        if isinstance(point.value, bool) or not is_number(point.value):
            found.append(f"`value` is {point.value!r}: a number is wanted")
        missing = [key for key in drawn if key not in flat(point.config)]
        found += [f"`{key}` is missing: a known value needs the whole configuration" for key in missing]
    return found


def _missed(domain: Any, value: Any) -> str | None:
    """The values of a domain or a grid, when this is none of them."""
    if isinstance(domain, list):
        return None if value in domain else str(domain)
    if allows(domain, value):
        return None
    step = quantum(domain)
    return str(domain.domain_str) + ("" if step is None else f" in steps of {step:g}")
