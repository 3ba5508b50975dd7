"""What the loop needs from a searcher: Ray's own interface, and three additions that the kit's own searchers have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from raysweep.history.sweep_state import TrialRecord
from raysweep.spec.observations import Observation
from raysweep.values import OWN_PREFIX

# Key of a trial's memory: the values that a point gave it, in Optuna's own words.
FIXED = "fixed_params"
# Key that the loop adds to the last result of a trial that ended before it was complete: stopped by a scheduler, by a
# limit or by nan, or infeasible. So a searcher need not mistake an early value for a final one.
STOPPED = f"{OWN_PREFIX}stopped"


@runtime_checkable
class Resumable(Protocol):
    """A searcher that takes over the trials of a journal; others start from scratch on a resume."""

    def begin(self, adopted: list[TrialRecord]) -> None:
        """Called once, with metric, mode and space set, before the first suggestion."""

    @property
    def waiting(self) -> int:
        """The number of points that are still to be tried."""


@runtime_checkable
class Learning(Protocol):
    """A searcher that takes the trials of earlier sweeps; see `--warm-start`."""

    def learn(self, observations: Sequence[Observation]) -> None:
        """Called once, with metric, mode and space set, before `begin`."""


@runtime_checkable
class Remembering(Protocol):
    """A searcher whose sampler stores data with a trial that it needs again on a resume."""

    def memory(self, trial_id: str) -> dict[str, Any]:
        """The data stored with a trial."""
