"""Grid and random search: Ray's variant generator as a searcher that a resume can continue."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from ray.tune.search import Searcher
from ray.tune.search.sample import Domain
from ray.tune.search.variant_generator import generate_variants

from raysweep.history.sweep_state import TrialRecord
from raysweep.loop.searcher import FIXED
from raysweep.spec.configuration import Codec, filled, has_domains, parameters
from raysweep.spec.initial_points import Point
from raysweep.spec.observations import Observation
from raysweep.spec.paths import KeyPath, value_at
from raysweep.spec.space import grids

MOST_DRAWS = 10_000  # for one configuration that was not tried in an earlier sweep


class Variants(Searcher):
    """Grid and random search: Ray's variant generator, given a seed, as a searcher.

    The n-th draw depends only on the seed and on n, so a resumed sweep continues the same sequence.
    Choices such as functions, classes or arrays are passed on as the same objects, not as copies.
    For search spaces see https://docs.ray.io/en/latest/tune/tutorials/tune-search-spaces.html

    Args:
        space: domains, constants and grids; the sweep's space if not given.
        points: configurations to try first; each replaces one sample.
        seed: seeds the draws.
    """

    def __init__(self, space: dict[str, Any] | None = None, points: Iterable[Point] = (), seed: int = 0) -> None:
        super().__init__()
        self.space, self._points = space, list(points)
        self._waiting = deque(self._points)
        self._random = np.random.RandomState(seed)
        self._pass: Iterator[dict[str, Any]] = iter(())  # the rest of the current pass over the space
        self._given: dict[str, Any] = {}  # the point of the current pass
        self._given_by_trial: dict[str, dict[str, Any]] = {}
        self._tried: dict[str, dict[str, Any]] = {}  # configurations of earlier sweeps

    def learn(self, observations: Sequence[Observation]) -> None:
        """From now on, configurations of earlier sweeps are skipped, but for points and in a grid with draws in it."""
        self._tried = {_text(each.config): each.config for each in observations}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Called with the sweep's metric, mode and space."""
        super().__init__(metric=metric, mode=mode)  # Ray has no other way to set them
        self.space = self.space if self.space is not None else config
        return True

    def total(self, samples: int) -> int:
        """The number of trials in `samples` passes over the space; a point is one pass over the rest of the grid."""
        space = self.space or {}
        passes = [_merged(space, point.config) for point in self._points]
        left = max(samples - len(passes), 0)
        return sum(map(_combinations, passes)) + left * (_combinations(space) - self._tried_of_grid(space))

    def _tried_of_grid(self, space: dict[str, Any]) -> int:
        """How many combinations of a pure grid were tried in earlier sweeps."""
        if not self._tried or not _is_grid(space):
            return 0
        codec, paths = Codec(space), list(parameters(space))
        axes = {path: Counter(map(_text, known.written)) for path in paths if (known := codec.choices(path))}
        tried = [config for config in self._tried.values() if codec.matches(config)]
        return sum(math.prod(axes[path][_text(value_at(config, path))] for path in paths) for config in tried)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next configuration: of the current pass, else of the next point, else of the whole space."""
        config = next(self._pass, None)
        if config is None:
            config = self._begin_pass(self._waiting.popleft().config if self._waiting else {})
        if self._given:
            self._given_by_trial[trial_id] = self._given
        return Searcher.FINISHED if config is None else config

    def _begin_pass(self, given: dict[str, Any]) -> dict[str, Any] | None:
        space = self.space or {}
        self._given, self._pass = given, self._one_pass(_merged(space, given)) if given else self._untried(space)
        return next(self._pass, None)  # an empty grid has no configuration

    def _untried(self, space: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """One pass over the space without what was tried in earlier sweeps."""
        if not self._tried or (grids(space) and not _is_grid(space)):
            return self._one_pass(space)
        codec = Codec(space)
        if grids(space):
            return (each for each in self._one_pass(space) if _text(codec.write(each)) not in self._tried)
        return self._new_draw(space, codec)

    def _new_draw(self, space: dict[str, Any], codec: Codec) -> Iterator[dict[str, Any]]:
        """One draw that was not tried; after so many others any one, since perhaps there is no new one."""
        for draws in itertools.count(1):
            for config in self._one_pass(space):
                if draws == MOST_DRAWS or _text(codec.write(config)) not in self._tried:
                    yield config
                    return

    def _one_pass(self, space: dict[str, Any]) -> Iterator[dict[str, Any]]:
        drawn = {path: _Drawn(domain) for path, domain in parameters(space).items()}
        spec = {"config": _without_tuples(filled(space, drawn))}
        for resolved, _ in generate_variants(spec, random_state=self._random):
            values = {path[1:]: value for path, value in resolved.items()}
            # Ray's value may be a copy of the drawn object. It is used only if the object itself contains domains.
            values |= {path: each.last for path, each in drawn.items() if not has_domains(each.last)}
            yield filled(space, values)

    def begin(self, adopted: list[TrialRecord]) -> None:
        """Takes over the journal's trials: skips their suggestions in the sequence, and the points that were tried."""
        codec = Codec(self.space or {})
        for trial in adopted:
            if next(self._pass, None) is None:
                given = trial.memory.get(FIXED, {})
                waiting = [codec.write_flat(point.config) for point in self._waiting] if given else []
                if given in waiting:
                    del self._waiting[waiting.index(given)]
                self._begin_pass(codec.restore_flat(given))
        self._given_by_trial.clear()

    @property
    def waiting(self) -> int:
        """The number of points that are still to be tried."""
        return len(self._waiting)

    def memory(self, trial_id: str) -> dict[str, Any]:
        """The point that a trial tries, for the journal: a resumed sweep need not try it again."""
        given = self._given_by_trial.pop(trial_id, None)
        return {FIXED: Codec(self.space or {}).write_flat(given)} if given else {}

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


def _without_tuples(node: Any) -> Any:
    """The same with lists instead of tuples that contain domains: Ray cannot replace one in a tuple of a tuple."""
    if isinstance(node, dict):
        return type(node)({key: _without_tuples(value) for key, value in node.items()})
    if isinstance(node, list | tuple) and has_domains(node):
        return [_without_tuples(value) for value in node]
    return node


def _is_grid(space: dict[str, Any]) -> bool:
    """Whether nothing of a space is drawn at random."""
    return bool(grids(space)) and len(grids(space)) == len(parameters(space))


def _text(written: Any) -> str:
    """The same text for the same configuration, in whatever order its parameters are written."""
    return json.dumps(written, sort_keys=True)


def _combinations(space: dict[str, Any]) -> int:
    return math.prod(len(values) for values in grids(space).values())


def _merged(space: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    """The space with a point's values instead of its domains and grids."""
    given: dict[KeyPath, Any] = {}
    for path in parameters(space):
        with contextlib.suppress(KeyError):
            given[path] = value_at(point, path)
    return dict(filled(space, given))
