"""One of Ray's schedulers, with reproducible draws, and asked only what it can answer."""

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

BAD = 1e30  # stands for a first value that is not finite
# What is known of Ray's own: which draw nothing for a new trial, and which of those draw nothing for a result either.
ADD_WITHOUT_DRAWS = (FIFOScheduler, HyperBandScheduler, MedianStoppingRule)
DECIDE_WITHOUT_DRAWS = (*ADD_WITHOUT_DRAWS, AsyncHyperBandScheduler)


class Scheduler:
    """One of Ray's schedulers: https://docs.ray.io/en/latest/tune/api/schedulers.html.

    Ray's schedulers draw from the global generators of Python and numpy. Here each decision draws from generators that
    are seeded with the sweep's seed, the trial and its iteration, so that it depends on what was reported and on
    nothing else; what the process around it draws is left as it was.

    Args:
        scheduler: Ray's.
        seed: of the sweep.
        mode: "max" or "min".
    """

    def __init__(self, scheduler: TrialScheduler, seed: int, mode: str = "max") -> None:
        self.ray, self._seed, self._sign = scheduler, seed, 1 if mode == "max" else -1
        self._worst: float | None = None
        # A subclass may do what its parent does not: only what is known is spared the seeding, which costs 0.1 ms.
        self._add_draws = type(scheduler) not in ADD_WITHOUT_DRAWS
        self._result_draws = type(scheduler) not in DECIDE_WITHOUT_DRAWS

    def hears(self, result: dict[str, Any]) -> bool:
        """Whether a result has what the scheduler compares; one without says nothing to it."""
        metric = self.ray.metric
        return metric is None or metric in result

    def add(self, controller: Any, trial: Trial) -> None:
        """A new trial."""
        with self._draws(trial.trial_id, "0") if self._add_draws else contextlib.nullcontext():
            self.ray.on_trial_add(controller, trial)

    def result(self, controller: Any, trial: Trial, result: dict[str, Any], exploits: int = 0) -> str:
        """Its decision on a running trial: one of `TrialScheduler.CONTINUE`, `PAUSE`, `STOP`, `NOOP`.

        Args:
            controller: what the scheduler is handed.
            trial: the trial.
            result: its newest.
            exploits: how often the trial was sent back to another one's checkpoint. With the draws of its earlier visit
                of an iteration it would be perturbed to the same configuration again.
        """
        visit = f"{result[TRAINING_ITERATION]}" + (f"/{exploits}" if exploits else "")
        with self._draws(trial.trial_id, visit) if self._result_draws else contextlib.nullcontext():
            return str(self.ray.on_trial_result(controller, trial, self._sane(result)))

    def complete(self, controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """A running trial has ended, with this newest result."""
        self.ray.on_trial_complete(controller, trial, self._sane(result))

    def remove(self, controller: Any, trial: Trial) -> None:
        """A trial has ended that did not run."""
        self.ray.on_trial_remove(controller, trial)

    def error(self, controller: Any, trial: Trial) -> None:
        """A trial has failed for good."""
        self.ray.on_trial_error(controller, trial)

    def choose(self, controller: Any) -> Trial | None:
        """Which of the trials that wait shall run next."""
        return self.ray.choose_trial_to_run(controller)

    def _sane(self, result: dict[str, Any]) -> dict[str, Any]:
        """A copy that the scheduler may keep and change; a value that is not finite counts as the worst so far, since
        ranks and quantiles know no order with nan.
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
