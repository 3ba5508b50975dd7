"""Grid and random search: Ray's variant generator as a searcher that a resume can continue."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from ray.tune.search import Searcher
from ray.tune.search.sample import Domain
from ray.tune.search.variant_generator import generate_variants, parse_spec_vars

from raysweep.history.sweep_state import TrialRecord
from raysweep.spec.initial_points import Point
from raysweep.spec.space import grids

KeyPath = tuple[Any, ...]  # the keys that lead to a parameter, and indices where lists are on the way


class Variants(Searcher):
    """Grid and random search: Ray's variant generator, given a seed, as a searcher.

    The n-th suggestion depends on the seed and on n alone, so a resumed sweep continues the same sequence.
    What is chosen from is handed on as the very object that stands in the space: functions, classes, arrays.
    What a space means: https://docs.ray.io/en/latest/tune/tutorials/tune-search-spaces.html

    Args:
        space: domains, constants and grids; the sweep's space if not given.
        points: configurations to try first; each takes the place of one sample.
        seed: seeds the draws.
    """

    def __init__(self, space: dict[str, Any] | None = None, points: Iterable[Point] = (), seed: int = 0) -> None:
        super().__init__()
        self.space, self._points = space, [point.config for point in points]
        self._random = np.random.RandomState(seed)
        self._configs: Iterator[dict[str, Any]] | None = None

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Called with the sweep's metric, mode and space."""
        super().__init__(metric=metric, mode=mode)  # Ray has no other way to set them
        self.space = self.space if self.space is not None else config
        return True

    def total(self, samples: int) -> int:
        """How many trials `samples` passes over the space make; a point is one pass over the grid that it leaves."""
        space = self.space or {}
        passes = [merged(space, point) for point in self._points]
        left = max(samples - len(passes), 0)
        return sum(map(_combinations, passes)) + left * _combinations(space)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next configuration."""
        self._configs = self._configs or self._generate(self.space or {})
        return next(self._configs, Searcher.FINISHED)

    def _generate(self, space: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for point in self._points:
            yield from self._one_pass(merged(space, point))
        while _combinations(space):  # an empty grid has no first configuration, and would be asked for it for ever
            yield from self._one_pass(space)

    def _one_pass(self, space: dict[str, Any]) -> Iterator[dict[str, Any]]:
        _, domains, grid = parse_spec_vars(space)
        drawn = {path: _Drawn(domain) for path, domain in [*domains, *grid]}
        spec = {"config": filled(space, drawn)}
        for resolved, _ in generate_variants(spec, random_state=self._random):
            values = {path[1:]: value for path, value in resolved.items()}
            # Ray's value may be a copy of what was drawn. It has to do where that has itself something to draw inside.
            values |= {path: each.last for path, each in drawn.items() if not any(parse_spec_vars({"": each.last})[1:])}
            yield filled(space, values)

    def begin(self, adopted: list[TrialRecord]) -> None:
        """Takes over the journal's trials: their places in the sequence are used up."""
        for trial in adopted:
            self.suggest(trial.id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing is learnt from results."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the journal has it."""


class _Drawn(Domain):
    """Stands for a domain or a grid while Ray draws from it, and remembers the very object that was drawn.

    Ray copies the space again and again, objects to choose from and all. It cannot copy this.
    """

    def __init__(self, domain: Domain) -> None:
        self._domain, self.last = domain, None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Drawn:
        return self

    def is_grid(self) -> bool:
        return bool(self._domain.is_grid())

    def sample(self, *args: Any, **options: Any) -> Any:
        self.last = self._domain.sample(*args, **options)
        return self.last

    def __len__(self) -> int:
        return len(self._domain)

    def __getitem__(self, index: int) -> Any:
        self.last = self._domain[index]
        return self.last


def _combinations(space: dict[str, Any]) -> int:
    return math.prod(len(values) for values in grids(space).values())


def filled(node: Any, values: dict[KeyPath, Any], path: KeyPath = ()) -> Any:
    """A space with values at their paths: dictionaries and lists are new ones, all else is the very object."""
    if path in values:
        node = values[path]
        if not any(other[: len(path)] == path for other in values if len(other) > len(path)):
            return node
    if isinstance(node, dict):
        whole = copy.copy(node)  # of the same type
        whole.update({key: filled(value, values, (*path, key)) for key, value in node.items()})
        return whole
    if isinstance(node, list | tuple):
        items = [filled(value, values, (*path, index)) for index, value in enumerate(node)]
        return items if isinstance(node, list) else _tuple(node, items)
    return node


def _tuple(before: tuple[Any, ...], items: list[Any]) -> tuple[Any, ...]:
    if all(new is old for new, old in zip(items, before, strict=True)):
        return before
    make = getattr(type(before), "_make", tuple)  # a named tuple is not made of one list
    return make(items)


def merged(space: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    """The space with a point's values in the place of its domains, grids and constants."""
    given: dict[KeyPath, Any] = {}
    for path, _ in itertools.chain(*parse_spec_vars(space)):
        with contextlib.suppress(KeyError):
            given[path] = value_at(point, path)
    return dict(filled(space, given))


def name_of(path: KeyPath) -> str:
    """`("a", "b")` -> `a/b`, as points, Optuna and Ray name a nested parameter."""
    return "/".join(map(str, path))


def value_at(config: Any, path: KeyPath) -> Any:
    """What a configuration holds for a path. Keys may be written as one, `a/b`, and numbers as text, as JSON does.

    Raises:
        KeyError: it holds nothing there.
    """
    if not path:
        return config
    for size in range(1, len(path) + 1):
        key = path[0] if size == 1 and _has(config, path[0]) else name_of(path[:size])
        if _has(config, key):
            with contextlib.suppress(KeyError):
                return value_at(config[key], path[size:])
    raise KeyError(name_of(path))


def _has(config: Any, key: Any) -> bool:
    if isinstance(config, dict):
        return key in config
    return isinstance(config, list | tuple) and isinstance(key, int) and key < len(config)
