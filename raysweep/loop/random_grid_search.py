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
from raysweep.spec.paths import KeyPath, value_at
from raysweep.spec.space import grids


class Variants(Searcher):
    """Grid and random search: Ray's variant generator, given a seed, as a searcher.

    The n-th suggestion depends only on the seed and on n, so a resumed sweep continues the same sequence.
    Choices such as functions, classes or arrays are passed on as the same objects, not as copies.
    For search spaces see https://docs.ray.io/en/latest/tune/tutorials/tune-search-spaces.html

    Args:
        space: domains, constants and grids; the sweep's space if not given.
        points: configurations to try first; each replaces one sample.
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
        """The number of trials in `samples` passes over the space; a point is one pass over the rest of the grid."""
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
        while _combinations(space):  # an empty grid has no configuration, and this would loop for ever
            yield from self._one_pass(space)

    def _one_pass(self, space: dict[str, Any]) -> Iterator[dict[str, Any]]:
        _, domains, grid = parse_spec_vars(space)
        drawn = {path: _Drawn(domain) for path, domain in [*domains, *grid]}
        spec = {"config": filled(space, drawn)}
        for resolved, _ in generate_variants(spec, random_state=self._random):
            values = {path[1:]: value for path, value in resolved.items()}
            # Ray's value may be a copy of the drawn object. It is used only if the object itself contains domains.
            values |= {path: each.last for path, each in drawn.items() if not any(parse_spec_vars({"": each.last})[1:])}
            yield filled(space, values)

    def begin(self, adopted: list[TrialRecord]) -> None:
        """Takes over the journal's trials: skips their suggestions in the sequence."""
        for trial in adopted:
            self.suggest(trial.id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing is learnt from results."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the journal has it."""


class _Drawn(Domain):
    """Replaces a domain or a grid while Ray draws from it, and remembers the object that was drawn.

    Ray copies the space repeatedly, including the choices; this class prevents the copy.
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
    """A space with these values at their paths: dictionaries and lists are new, all else is the same object."""
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


def _tuple(original: tuple[Any, ...], items: list[Any]) -> tuple[Any, ...]:
    if all(new is old for new, old in zip(items, original, strict=True)):
        return original
    make = getattr(type(original), "_make", tuple)  # the constructor of a named tuple does not take a list
    return make(items)


def merged(space: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    """The space with a point's values instead of its domains, grids and constants."""
    given: dict[KeyPath, Any] = {}
    for path, _ in itertools.chain(*parse_spec_vars(space)):
        with contextlib.suppress(KeyError):
            given[path] = value_at(point, path)
    return dict(filled(space, given))
