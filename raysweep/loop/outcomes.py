"""What simulated trials do: a function or a table gives the outcome of each iteration, faults say what goes wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raysweep.history.sweep_state import SweepState, TrialRecord
from raysweep.values import AUTOMATIC_METRICS, TIME_THIS_ITER_S, to_json


@dataclass(frozen=True)
class Step:
    """One iteration of a simulated trial.

    Attributes:
        metrics: the metrics that it reports.
        seconds: how long it takes.
        state: the state that it saves, for trials that continue from here; None saves nothing.
    """

    metrics: dict[str, Any]
    seconds: float = 1.0
    state: Any = None


# (trial, configuration, iteration, newest saved state) -> the iteration; None if the function returns instead.
# An exception fails the trial.
Outcome = Callable[[str, dict[str, Any], int, Any], Step | None]


@dataclass(frozen=True)
class Fault:
    """What goes wrong in an iteration, or after the last one, before it is reported.

    Attributes:
        error: the function raises it, or the process ends with it.
        returns: the function returns.
        delay: additional seconds of the iteration; it hangs if they are infinite.
        times: how many tries of the trial are affected.
    """

    error: BaseException | None = None
    returns: bool = False
    delay: float = 0.0
    times: int = 1


class Recorded:
    """The recorded trials of an earlier sweep as outcomes, to try other strategies on them.

    A trial is looked up by its configuration; among several with the same one, by its id.

    Args:
        state: the sweep, preferably one in which no trial was stopped.
    """

    def __init__(self, state: SweepState) -> None:
        self._trials: defaultdict[str, dict[str, TrialRecord]] = defaultdict(dict)
        for record in state.trials.values():
            self._trials[to_json(record.config)][record.id] = record

    def __call__(self, trial: str, config: dict[str, Any], iteration: int, state: Any) -> Step | None:
        """The recorded iteration; None if the trial had returned before it.

        Raises:
            LookupError: no trial had this configuration, or none got that far.
        """
        records = self._trials.get(to_json(config))
        if records is None:
            raise LookupError(f"no recorded trial had {config}: the strategy has to draw the same ones")
        record = records.get(trial) or next(iter(records.values()))
        result = record.results.get(iteration)
        if result is None and record.status == "finished":
            return None
        if result is None:
            raise LookupError(f"recorded trial {record.id} was {record.status} before iteration {iteration}")
        metrics = {name: value for name, value in result.metrics.items() if name not in AUTOMATIC_METRICS}
        return Step(metrics, result.metrics.get(TIME_THIS_ITER_S, 1.0), iteration if record.checkpoint else None)
