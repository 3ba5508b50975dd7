"""One of Ray's schedulers, with reproducible draws, and with finite values only."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from raysweep.values import TRAINING_ITERATION, finite

BAD = 1e30  # replaces a first value that is not finite
# Ray's schedulers that draw nothing for a new trial, and those that draw nothing for a result.
ADD_WITHOUT_DRAWS = (FIFOScheduler, HyperBandScheduler, MedianStoppingRule)
DECIDE_WITHOUT_DRAWS = (*ADD_WITHOUT_DRAWS, AsyncHyperBandScheduler)


class Scheduler:
    """One of Ray's schedulers: https://docs.ray.io/en/latest/tune/api/schedulers.html.

    Ray's schedulers draw from the global generators of Python and numpy. Here these are seeded for each decision with
    the sweep's seed, the trial and its iteration, so that the decision depends on the reports only; afterwards they are
    restored for the rest of the process.

    Args:
        scheduler: Ray's.
        seed: of the sweep.
        mode: "max" or "min".
    """

    def __init__(self, scheduler: TrialScheduler, seed: int, mode: str = "max") -> None:
        self.ray, self._seed, self._sign = scheduler, seed, 1 if mode == "max" else -1
        self._worst: float | None = None
        # Only these exact classes skip the seeding, which costs 0.1 ms: a subclass may draw where its parent does not.
        self._add_draws = type(scheduler) not in ADD_WITHOUT_DRAWS
        self._result_draws = type(scheduler) not in DECIDE_WITHOUT_DRAWS

    def has_metric(self, result: dict[str, Any]) -> bool:
        """Whether a result has the metric that the scheduler compares; it is not called with others."""
        metric = self.ray.metric
        return metric is None or metric in result

    def add(self, controller: Any, trial: Trial) -> None:
        """A new trial."""
        with self._draws(trial.trial_id, "0") if self._add_draws else contextlib.nullcontext():
            self.ray.on_trial_add(controller, trial)

    def result(self, controller: Any, trial: Trial, result: dict[str, Any], exploits: int = 0) -> str:
        """Its decision on a running trial: one of `TrialScheduler.CONTINUE`, `PAUSE`, `STOP`, `NOOP`.

        Args:
            controller: stands in for Ray's own.
            trial: the trial.
            result: its newest result.
            exploits: how often the trial was set back to another one's checkpoint. With the same draws as on its
                earlier visit of an iteration, it would be perturbed to the same configuration again.
        """
        visit = f"{result[TRAINING_ITERATION]}" + (f"/{exploits}" if exploits else "")
        with self._draws(trial.trial_id, visit) if self._result_draws else contextlib.nullcontext():
            return str(self.ray.on_trial_result(controller, trial, self._sane(result)))

    def complete(self, controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """A running trial has ended, with this newest result."""
        self.ray.on_trial_complete(controller, trial, self._sane(result))

    def remove(self, controller: Any, trial: Trial) -> None:
        """A trial has ended that was not running."""
        self.ray.on_trial_remove(controller, trial)

    def error(self, controller: Any, trial: Trial) -> None:
        """A trial has failed for good."""
        self.ray.on_trial_error(controller, trial)

    def choose(self, controller: Any) -> Trial | None:
        """The waiting trial to run next."""
        return self.ray.choose_trial_to_run(controller)

    def _sane(self, result: dict[str, Any]) -> dict[str, Any]:
        """A copy that the scheduler may keep and change; a value that is not finite counts as the worst so far, since
        ranks and quantiles are undefined with nan.
        """
        name = self.ray.metric or ""
        value = result.get(name)
        if not finite(value):
            return {**result, name: -self._sign * BAD if self._worst is None else self._worst}
        if isinstance(value, int | float):
            worst = value if self._worst is None else self._worst
            self._worst = self._sign * min(self._sign * value, self._sign * worst)
        return dict(result)

    @contextlib.contextmanager
    def _draws(self, trial_id: str, visit: str) -> Iterator[None]:
        before = random.getstate(), np.random.get_state()
        digest = hashlib.sha256(f"{self._seed}/{trial_id}/{visit}".encode()).digest()
        random.seed(digest)
        np.random.seed(int.from_bytes(digest[:4], "big"))
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
