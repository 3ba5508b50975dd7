"""Scheduler state after a resume: the journal's results are told to the new scheduler again.

Ray never saves what a scheduler knows (https://github.com/ray-project/ray/issues/30838, open since 2022):
a restored ASHA starts with empty rungs and lets the next trials through. ASHA, asynchronous HyperBand and the
median stopping rule decide from results alone, so telling them the results in their order rebuilds them exactly.
HyperBand and PBT also hold trials and checkpoints; they begin anew with the trials that are unfinished.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.result import TRAINING_ITERATION
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule

from raysweep.journal import Event
from raysweep.state import SweepState

REPLAYABLE = (AsyncHyperBandScheduler, MedianStoppingRule)


@dataclass(frozen=True)
class _Ended:
    """Stands for a trial that ended before the resume."""

    trial_id: str


class _NoController:
    """Schedulers ask it who else is alive; during a replay nobody is."""

    def get_live_trials(self) -> list[Trial]:
        return []


def replay(scheduler: Any, state: SweepState, unfinished: dict[str, Trial]) -> None:
    """Tells a new scheduler what the journal knows.

    Args:
        scheduler: Ray's scheduler, with its metric set.
        state: the folded journal, with its events in order.
        unfinished: the Ray trials that will run on, by id.
    """
    if not isinstance(scheduler, REPLAYABLE):
        return
    trials = {trial: unfinished.get(trial, _Ended(trial)) for trial in state.trials}
    for event in state.events:
        if (trial := trials.get(event.get("trial", ""))) is not None:
            _tell(scheduler, trial, event, state)


def _tell(scheduler: Any, trial: Any, event: Event, state: SweepState) -> None:
    controller = _NoController()
    if event["type"] == "suggest":
        scheduler.on_trial_add(controller, trial)
    elif event["type"] == "result":
        scheduler.on_trial_result(controller, trial, _result(event))
    elif event["type"] == "complete":
        if event["status"] == "failed" or not state.trials[event["trial"]].results:
            scheduler.on_trial_remove(controller, trial)
        else:
            last = max(state.trials[event["trial"]].results.values(), key=lambda result: result.seq)
            scheduler.on_trial_complete(controller, trial, {**last.metrics, TRAINING_ITERATION: last.iteration})


def _result(event: Event) -> dict[str, Any]:
    return {**event["metrics"], TRAINING_ITERATION: event["iteration"]}
