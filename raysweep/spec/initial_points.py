"""`--points FILE`: configurations to try first; for some the metric's value may be known already.

The file is a list in YAML or JSON, or a sweep's best.json or trials.csv. An item is a configuration, or
`{config: {…}, value: 0.97}` if the metric's value is known: a searcher then learns from it without running a trial.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ray.tune.search.sample import Domain, Float

from raysweep.errors import BadInput
from raysweep.spec.configuration import Codec, Json, parameters, readable, untagged
from raysweep.spec.flags import nearest
from raysweep.spec.paths import KeyPath, name_of
from raysweep.spec.space import allows, constants, quantum
from raysweep.spec.yaml_loader import Loader
from raysweep.values import is_number

COLUMN = "config/"  # what the columns of a configuration begin with in trials.csv
RESULT = {"trial", "config", "metrics"}  # keys of an item of best.json


@dataclass(frozen=True)
class Point:
    """A configuration to try.

    Attributes:
        config: parameter -> value, with nested ones by their joined names such as `a/b`; it need not have all of them.
        value: the metric's value, if it is known.
    """

    config: dict[str, Any]
    value: float | None = None


def read(path: Path, space: dict[str, Any]) -> list[Point]:
    """The points of a file.

    Raises:
        BadInput: one line per wrong item, with the file, the line and the key.
    """
    try:
        text = path.read_text()
        items, lines = _rows(text, space) if path.suffix == ".csv" else _items(text)
    except UnicodeDecodeError as error:
        raise BadInput(f"`--points {path}`: not YAML or JSON: must be text in UTF-8") from error
    except OSError as error:
        raise BadInput(f"`--points {path}`: {error.strerror}: name a YAML or JSON file") from error
    except yaml.YAMLError as error:
        raise BadInput(f"`--points {path}`: not YAML or JSON: {' '.join(str(error).split())}") from error
    if not isinstance(items, list):
        raise BadInput(f"`--points {path}`: line 1: must be a list of configurations, not a {type(items).__name__}")
    return parse(items, space, [f"`--points {path}`: line {line}" for line in lines])


def _items(text: str) -> tuple[Any, list[int]]:
    """The items of a file in YAML or JSON, and the line of each."""
    try:
        items = json.loads(text)
        text = text.replace("\t", " ")  # YAML allows fewer tabs than JSON
    except ValueError:
        items = yaml.load(text, Loader=Loader)
    tree = yaml.compose(text, Loader=Loader)
    if isinstance(items, dict) and isinstance(items.get("front"), list):  # best.json of several objectives
        return items["front"], [1] * len(items["front"])
    if isinstance(items, dict) and items.keys() >= RESULT:
        return [items], [1]
    if not isinstance(items, list) or tree is None:
        return items, []
    return items, [node.start_mark.line + 1 for node in tree.value]


def _rows(text: str, space: dict[str, Any]) -> tuple[list[Any], list[int]]:
    """The configurations of a trials.csv, and the line of each; an empty cell says nothing, or is the choice None."""
    codec = Codec(space)
    choices = {name_of(path): codec.choices(path) for path in parameters(space)}
    none = {name for name, known in choices.items() if known is not None and None in known.values}
    rows = csv.DictReader(io.StringIO(text))
    items = []
    for row in rows:
        cells = {key.removeprefix(COLUMN): cell for key, cell in row.items() if key and key.startswith(COLUMN)}
        items.append({name: _cell(cell) for name, cell in cells.items() if cell or name in none})
    return items, list(range(2, len(items) + 2))


def _cell(text: str) -> Json:
    with contextlib.suppress(ValueError):
        return json.loads(text) if text else None
    return text


def parse(items: list[Any], space: dict[str, Any], places: list[str] | None = None) -> list[Point]:
    """The points of a list of configurations; `places` names the origin of each in messages.

    Raises:
        BadInput: all problems together.
    """
    places = places or [f"`points[{i}]`" for i in range(len(items))]
    reader = _Reader(space)
    problems: list[str] = []
    points = []
    for place, item in zip(places, items, strict=True):
        if not isinstance(item, dict):
            problems.append(f"{place}: must be a configuration (key: value), not {item!r}")
            continue
        point, found = reader.point(item)
        problems += [f"{place}: {problem}" for problem in found]
        points.append(point)
    if problems:
        raise BadInput(*problems)
    return points


def _config_and_value(item: dict[str, Any]) -> tuple[dict[str, Any], Any, list[str]]:
    """The configuration of an item, the metric's value, and the problems with its other keys."""
    if not isinstance(item.get("config"), dict):
        return item, None, []
    if item.keys() >= RESULT:  # the best trial of another sweep, which this one has to train itself
        return item["config"], None, []
    unknown = [key for key in item if key not in ("config", "value")]
    problems = [f"`{key}` is not allowed beside `config`, only `value` is{nearest(key, ['value'])}" for key in unknown]
    return item["config"], item.get("value"), problems


class _Reader:
    """Reads points for one space: in both spellings of nested parameters, and each value as the space has it."""

    def __init__(self, space: dict[str, Any]) -> None:
        self._codec, self._constants = Codec(space), dict(constants(space))
        self._drawn = {name_of(path): (path, domain) for path, domain in parameters(space).items()}

    def point(self, item: dict[str, Any]) -> tuple[Point, list[str]]:
        """The point of an item, and all problems with it."""
        config, value, problems = _config_and_value(item)
        given: dict[str, Any] = {}
        names = set()
        for name, each in self._leaves(config):
            names.add(name)
            if name in self._drawn:
                try:
                    given[name] = self._value(*self._drawn[name], each)
                except ValueError as error:
                    problems.append(f"`{name}` is {each!r}, outside of {error}")
            elif name not in self._constants:
                problems.append(f"`{name}` is not in the search space{nearest(name, list(self._drawn))}")
            elif readable(each) != readable(self._constants[name]):
                problems.append(f"`{name}` is {each!r}, but in the space it is always {self._constants[name]!r}")
        if value is not None:
            value = value.item() if isinstance(value, np.generic) else value
            problems += self._value_problems(names, value)
        return Point(given, value), problems

    def _value_problems(self, names: set[str], value: Any) -> list[str]:
        problems = []
        if isinstance(value, bool) or not is_number(value):
            problems.append(f"`value` is {value!r}: must be a finite number")
        missing = [name for name in self._drawn if name not in names]
        return problems + [f"`{name}` is missing: a known value needs the whole configuration" for name in missing]

    def _leaves(self, value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
        """The values that a point gives, each by its joined name; an empty dictionary gives none."""
        inside = any(known.startswith(f"{name}/") for known in (*self._drawn, *self._constants))
        if name not in self._drawn and (isinstance(value, dict) or (inside and isinstance(value, list | tuple))):
            for key, each in value.items() if isinstance(value, dict) else enumerate(value):
                yield from self._leaves(each, f"{name}/{key}" if name else str(key))
        else:
            yield name, value

    def _value(self, path: KeyPath, domain: Domain, given: Any) -> Any:
        """A value as the space has it: one of the choices, or a number of Python's.

        Raises:
            ValueError: it is none; with the values that are allowed.
        """
        choices = self._codec.choices(path)
        if choices is not None:
            return choices.given(given)
        value = untagged(given.item() if isinstance(given, np.generic) else given)
        if not allows(domain, value):
            step = quantum(domain)
            raise ValueError(str(domain.domain_str) + ("" if step is None else f" in steps of {step:g}"))
        return float(value) if isinstance(domain, Float) else value


def described(points: Iterable[Point], space: dict[str, Any]) -> list[Json]:
    """Points as sweep.json has them, from which `joined` reads them."""
    codec = Codec(space)
    return [{"config": codec.write_flat(point.config), "value": point.value} for point in points]


def joined(known: list[Json], points: Sequence[Point], space: dict[str, Any]) -> tuple[Point, ...]:
    """The points of a resumed sweep: those it was started with, and after them those that are new.

    Args:
        known: as `described` them.
        points: that were given now; the earlier ones may be among them, or not.
        space: of the sweep.
    """
    codec, rest = Codec(space), list(known)
    new = []
    for point, text in zip(points, described(points, space), strict=True):
        if text in rest:
            rest.remove(text)
        else:
            new.append(point)
    return (*(Point(codec.restore_flat(each["config"]), each["value"]) for each in known), *new)
