"""How a configuration is written as JSON, and how its objects are restored from that.

In the driver, the journal and all results a configuration has JSON values only; a training function is given the very
objects of the space. What is written of a value depends on where it stands in the space:

a choice      as JSON, if JSON has such a value, else its text; unique among the choices, if necessary by a number, such
              as `<function <lambda>> #1`: so a user can read it, and give it in a file of points
a constant    likewise; the space itself has the object
any other     numbers as they are; of what a `tune.sample_from` returns, JSON values as they are, others with a tag
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from ray import cloudpickle
from ray.tune.search.sample import Categorical, Domain
from ray.tune.search.variant_generator import parse_spec_vars

from raysweep.errors import BadInput
from raysweep.spec.paths import KeyPath, name_of, value_at
from raysweep.values import TAG, is_tagged, to_json

Json = Any

TUPLE, FLOAT, DICT, PICKLE = (TAG + name for name in ("tuple", "float", "dict", "pickle"))
_NOT_JSON = {"Infinity": "inf", "-Infinity": "-inf", "NaN": "nan"}  # numbers, in Python's words


def parameters(space: Any) -> dict[KeyPath, Domain]:
    """The domain at each path of a space that is drawn; a `grid_search` is a `Categorical` with `is_grid()`.

    Raises:
        BadInput: Ray cannot bring the grids into an order.
    """
    try:
        _, domains, grids = parse_spec_vars({"": space})
    except TypeError:
        raise BadInput("the keys of the space have several types, and a grid is sorted by them: use texts") from None
    return {path[1:]: domain for path, domain in [*domains, *grids]}


def has_domains(value: Any) -> bool:
    """Whether a choice is drawn in turn: it is a domain, or contains some."""
    return isinstance(value, Domain | dict | list | tuple) and bool(parameters(value))


class Codec:
    """Writes the configurations of one space, and restores them.

    Args:
        space: of Ray's domains, constants and grids, nested in dictionaries, lists and tuples.
    """

    def __init__(self, space: Any) -> None:
        self._space, self._drawn = space, parameters(space)
        self._choices: dict[KeyPath, Choices] = {}
        self._constants: dict[KeyPath, Json] = {}  # what is written of each; to make it anew for each trial costs time

    def choices(self, path: KeyPath) -> Choices | None:
        """The choices of the parameter at a path; None if it has another kind of domain."""
        domain = self._drawn[path]
        if isinstance(domain, Categorical) and path not in self._choices:
            self._choices[path] = Choices(domain.categories)
        return self._choices.get(path)

    def _constant(self, node: Any, path: KeyPath) -> Json:
        if path not in self._constants:
            self._constants[path] = readable(node)
        return self._constants[path]

    def write(self, config: Any) -> Json:
        """What the journal has of a configuration: JSON values only."""
        return self._write(self._space, config, ())

    def restore(self, written: Json) -> Any:
        """The configuration that was written, with the objects of the space; containers are new, so they may change."""
        return self._restore(self._space, written, ())

    def write_flat(self, point: dict[str, Any]) -> dict[str, Json]:
        """What is written of the parameters that a point gives, by name."""
        given: dict[str, Json] = {}
        for path in self._drawn:
            with contextlib.suppress(KeyError):
                given[name_of(path)] = self._write(None, value_at(point, path), path)
        return given

    def restore_flat(self, given: dict[str, Json]) -> dict[str, Any]:
        """The values of the parameters that a point gave, by name."""
        paths = {name_of(path): path for path in self._drawn}
        return {name: self._restore(None, each, paths[name]) for name, each in given.items() if name in paths}

    def rebuild(self, values: dict[KeyPath, Json]) -> Json:
        """A whole written configuration, from what is written of its parameters."""
        restored = {path: self._restore(None, each, path) for path, each in values.items()}
        return self.write(filled(self._space, restored))

    def matches(self, written: Json) -> bool:
        """Whether a configuration was drawn from this space: it has its shape, its constants and its choices."""
        return self._matches(self._space, written, ())

    def _write(self, node: Any, value: Any, path: KeyPath) -> Json:
        if path in self._drawn:
            choices = self.choices(path)
            return tagged(value) if choices is None else choices.write(value)
        if isinstance(node, dict) and isinstance(value, dict):
            return {
                str(key): self._write(node[key], each, (*path, key)) if key in node else tagged(each)
                for key, each in value.items()
            }
        if _same_length(node, value):
            pairs = zip(node, value, strict=True)
            return [self._write(each, given, (*path, index)) for index, (each, given) in enumerate(pairs)]
        text = self._constant(node, path)
        return text if value is node or readable(value) == text else tagged(value)

    def _restore(self, node: Any, written: Json, path: KeyPath) -> Any:
        if path in self._drawn:
            choices = self.choices(path)
            return untagged(written) if choices is None else choices.restore(written)
        if isinstance(node, dict) and isinstance(written, dict) and not is_tagged(written):
            return _filled_like(node, dict(self._restored_items(node, written, path)))
        if _same_length(node, written):
            pairs = zip(node, written, strict=True)
            items = [self._restore(each, given, (*path, index)) for index, (each, given) in enumerate(pairs)]
            return items if isinstance(node, list) else _tuple(node, items)
        return node if written == self._constant(node, path) else untagged(written)

    def _restored_items(self, node: dict[Any, Any], written: dict[str, Json], path: KeyPath) -> Iterator[Any]:
        keys = {str(key): key for key in node}
        for text, value in written.items():
            key = keys.get(text, text)
            yield key, self._restore(node[key], value, (*path, key)) if text in keys else untagged(value)

    def _matches(self, node: Any, written: Json, path: KeyPath) -> bool:
        if path in self._drawn:
            choices = self.choices(path)
            return _is_drawn_from(self._drawn[path], written) if choices is None else choices.has(written)
        if isinstance(node, dict):
            keys = {str(key): key for key in node}
            return (
                isinstance(written, dict)
                and written.keys() == keys.keys()
                and all(self._matches(node[key], written[text], (*path, key)) for text, key in keys.items())
            )
        if _same_length(node, written):
            pairs = zip(node, written, strict=True)
            return all(self._matches(each, given, (*path, index)) for index, (each, given) in enumerate(pairs))
        return bool(written == self._constant(node, path))


def _is_drawn_from(domain: Domain, written: Json) -> bool:
    with contextlib.suppress(Exception):  # a domain is asked about a value of another type
        return bool(domain.is_valid(untagged(written)))
    return False


def _same_length(node: Any, value: Any) -> bool:
    return isinstance(node, list | tuple) and isinstance(value, list | tuple) and len(node) == len(value)


class Choices:
    """The values of a choice or a grid, and what is written of each.

    Args:
        values: as given to `tune.choice` or `tune.grid_search`.

    Attributes:
        values: the same.
        firsts: for each value, the index of the first one that is equal to it.
        written: for each value, what is written of it.
    """

    def __init__(self, values: Any) -> None:
        self.values = list(values)
        self._alike: defaultdict[str, list[int]] = defaultdict(list)  # JSON -> those that it may be, each value once
        texts = [readable(value) for value in self.values]
        keys = [_key(text) for text in texts]
        self.firsts = [self._first(index, key) for index, key in enumerate(keys)]
        self.written = [
            text if len(self._alike[key]) == 1 else f"{text if isinstance(text, str) else key} #{first}"
            for text, key, first in zip(texts, keys, self.firsts, strict=True)
        ]
        self._by_id = {id(value): first for value, first in zip(self.values, self.firsts, strict=True)}
        self._by_written = {_key(each): first for each, first in zip(self.written, self.firsts, strict=True)}
        self._drawn_in_turn = [Codec(value) for value in self.values if has_domains(value)]

    def _first(self, index: int, key: str) -> int:
        alike = self._alike[key]
        known = next((other for other in alike if _equal(self.values[other], self.values[index])), index)
        if known == index:
            alike.append(index)
        return known

    def index_of(self, value: Any) -> int | None:
        """The index of a value, of an equal one, or of the only one that looks like it; None if it is none of them."""
        if id(value) in self._by_id:
            return self._by_id[id(value)]
        alike = self._alike.get(_key(readable(value)), [])
        equal = [index for index in alike if _equal(self.values[index], value)]
        return equal[0] if equal else alike[0] if len(alike) == 1 else None

    def index_of_written(self, written: Json) -> int | None:
        """The index of the value of which this was written; None if it is none."""
        return self._by_written.get(_key(written))

    def find(self, given: Any) -> int | None:
        """The index of the value that somebody means who types it, or gives it from Python; None if it is none.

        A number may be another type's, and a function or a class its name.
        """
        for index in (self.index_of(given), self.index_of_written(given)):
            if index is not None:
                return index
        given = given.item() if isinstance(given, np.generic) else given
        same = {first for value, first in zip(self.values, self.firsts, strict=True) if _means(given, value)}
        return same.pop() if len(same) == 1 else None

    def given(self, value: Any) -> Any:
        """The value of a point, as the space has it.

        Raises:
            ValueError: it is none of the choices; with what may be given.
        """
        index = self.find(value)
        if index is not None:
            return self.values[index]
        for codec in self._drawn_in_turn:
            if codec.matches(written := codec.write(value)):
                return codec.restore(written)
        raise ValueError(json.dumps(self.written))

    def write(self, value: Any) -> Json:
        """What is written of a value."""
        index = self.index_of(value)
        if index is not None:
            return self.written[index]
        attempts = ((codec, codec.write(value)) for codec in self._drawn_in_turn)
        return next((written for codec, written in attempts if codec.matches(written)), tagged(value))

    def restore(self, written: Json) -> Any:
        """The value of which this was written."""
        index = self.index_of_written(written)
        if index is not None:
            return self.values[index]
        matching = (codec for codec in self._drawn_in_turn if codec.matches(written))
        return next((codec.restore(written) for codec in matching), untagged(written))

    def has(self, written: Json) -> bool:
        """Whether this was written of one of the values, or of what was drawn from one of them."""
        return self.index_of_written(written) is not None or any(c.matches(written) for c in self._drawn_in_turn)


def _equal(one: Any, other: Any) -> bool:
    try:
        return one is other or (type(one) is type(other) and bool(one == other))
    except Exception:  # the truth value of comparing arrays is undefined, and a user's class may raise anything
        return False


def _means(given: Any, value: Any) -> bool:
    if isinstance(given, str):
        return given in (getattr(value, "__name__", None), str(value))
    if isinstance(value, str):
        return value == str(given)  # a cell of a table may look like a number
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (given, value))
    return numbers and given == value


def readable(value: Any) -> Json:
    """JSON for any value, from which it cannot always be restored: a tuple is a list, an object its text.

    Memory addresses are left out, since they differ in the next process.
    """
    text = re.sub(r" at 0x[0-9a-f]+", "", to_json(value))
    return json.loads(text, parse_constant=_NOT_JSON.__getitem__)


def _key(written: Json) -> str:
    # Earlier versions wrote texts with memory addresses, and infinite numbers.
    return json.dumps(readable(written), sort_keys=True)


def tagged(value: Any) -> Json:
    """JSON from which `untagged` restores any value that can be pickled; numpy's numbers become Python's.

    Raises:
        Exception: what pickling the value raised.
    """
    if isinstance(value, np.generic) and isinstance(value.item(), bool | int | float | str):
        return tagged(value.item())
    kind = type(value)
    if kind is float and not math.isfinite(value):
        return {FLOAT: str(value)}
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is list:
        return [tagged(each) for each in value]
    if kind is tuple:
        return {TUPLE: [tagged(each) for each in value]}
    if kind is dict and all(type(key) is str for key in value) and not is_tagged(value):
        return {key: tagged(each) for key, each in value.items()}
    if kind is dict:
        return {DICT: [[tagged(key), tagged(each)] for key, each in value.items()]}
    return {PICKLE: base64.b64encode(cloudpickle.dumps(value)).decode()}


def untagged(written: Json) -> Any:
    """The value of which `tagged` made this. Unpickling executes code, as with a checkpoint."""
    if isinstance(written, list):
        return [untagged(each) for each in written]
    if not isinstance(written, dict):
        return written
    if not is_tagged(written):
        return {key: untagged(each) for key, each in written.items()}
    [(tag, content)] = written.items()
    if tag == TUPLE:
        return tuple(untagged(each) for each in content)
    if tag == FLOAT:
        return float(content)
    if tag == DICT:
        return {untagged(key): untagged(each) for key, each in content}
    return cloudpickle.loads(base64.b64decode(content)) if tag == PICKLE else written


def _filled_like(node: dict[Any, Any], values: dict[Any, Any]) -> dict[Any, Any]:
    """A dictionary of the same type."""
    whole = copy.copy(node)
    whole.clear()
    whole.update(values)
    return whole


def _tuple(original: tuple[Any, ...], items: list[Any]) -> tuple[Any, ...]:
    if all(new is old for new, old in zip(items, original, strict=True)):
        return original
    make = getattr(type(original), "_make", tuple)  # the constructor of a named tuple does not take a list
    return make(items)


def filled(node: Any, values: dict[KeyPath, Any], path: KeyPath = ()) -> Any:
    """A space with these values at their paths: dictionaries and lists are new, all else is the same object."""
    if path in values:
        node = values[path]
        if not any(other[: len(path)] == path for other in values if len(other) > len(path)):
            return node
    if isinstance(node, dict):
        return _filled_like(node, {key: filled(value, values, (*path, key)) for key, value in node.items()})
    if isinstance(node, list | tuple):
        items = [filled(value, values, (*path, index)) for index, value in enumerate(node)]
        return items if isinstance(node, list) else _tuple(node, items)
    return node
