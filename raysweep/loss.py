"""What a trial loses without having failed: its process, or the node that it ran on."""

from __future__ import annotations

import math
import time
from typing import Any

from ray.exceptions import RayActorError
from ray.tune.experiment import Trial

# A node that dies now and then is forgiven; a function that crashes its process each time is a failure.
MOST_LOSSES = 3


class RecoveringTrial(Trial):
    """Ray's trial, which starts again from its last checkpoint when its process or node was lost.

    Ray counts such a loss as a failure of the trial, so that with `max_failures=0` one dead machine ends the trials
    that it ran. Here the first MOST_LOSSES are not counted, unless the trial was ended because its time was up.
    """

    timeout = math.inf
    losses = 0

    @classmethod
    def of(cls, trial: Trial, timeout: float | None) -> Trial:
        """A trial of Ray's, made into one of these; `timeout` in seconds."""
        trial.__class__ = cls  # Ray has one way to make a trial from a spec, and it names its own class
        trial.timeout = timeout or math.inf
        return trial

    def handle_error(self, exc: Any = None) -> None:
        """Called by Ray when the trial's actor raised, or is gone."""
        counted = self.run_metadata.num_failures
        super().handle_error(exc)
        if isinstance(exc, RayActorError) and self.losses < MOST_LOSSES and not self._time_is_up():
            self.losses += 1
            self.run_metadata.num_failures = counted

    def _time_is_up(self) -> bool:
        began = self.run_metadata.start_time
        return began is not None and time.time() - began >= self.timeout
