"""Grid and random search: Ray's variant generator as a searcher that a resume can continue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from ray.tune.search import Searcher
from ray.tune.search.variant_generator import _count_variants, _get_preset_variants, generate_variants

from raysweep.points import Point
from raysweep.state import TrialRecord


class Variants(Searcher):
    """Grid and random search: Ray's variant generator, given a seed, as a searcher.

    The n-th suggestion depends on the seed and on n alone, so a resumed sweep continues the same sequence.
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
        """Called by Ray with the sweep's metric, mode and space."""
        self._metric, self._mode = metric, mode
        self.space = self.space if self.space is not None else config
        return True

    def total(self, samples: int) -> int:
        """How many trials `samples` passes over the space make."""
        return int(_count_variants({"config": self.space, "num_samples": samples}, self._points))

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The next configuration."""
        self._configs = self._configs or self._generate()
        return next(self._configs)

    def _generate(self) -> Iterator[dict[str, Any]]:
        spec = {"config": self.space}
        for point in self._points:
            for _, variant in _get_preset_variants(spec, point, random_state=self._random):
                yield variant["config"]
        while True:
            for _, variant in generate_variants(spec, random_state=self._random):
                yield variant["config"]

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
