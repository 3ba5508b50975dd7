"""What a sweep's journal says, folded into one record per trial. Live and resumed sweeps fold the same events."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from raysweep.checkpoint import Checkpoint, owner
from raysweep.journal import Event

# It did all its iterations or returned; a scheduler, a limit or nan ended it; it failed; it has no room anywhere.
ENDED = ("finished", "stopped", "failed", "infeasible")


@dataclass
class Result:
    """One iteration of a trial."""

    iteration: int
    metrics: dict[str, Any]
    checkpoint: Checkpoint | None
    config: dict[str, Any]
    node: str
    seq: int


@dataclass
class TrialRecord:
    """Everything that is known of one trial.

    `results` holds one entry per iteration: a trial that went back to a checkpoint overwrites what it repeats.
    `stop_decided` says that Tune answered the newest result with a stop; the trial's end follows it in the journal,
    unless the driver was killed between the two. `kinds` says of each failure what it was, see `failure`.
    """

    id: str
    config: dict[str, Any]
    status: str = "pending"
    results: dict[int, Result] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    donors: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    stop_decided: bool = False

    @property
    def ended(self) -> bool:
        """Whether the trial will run no more."""
        return self.status in ENDED

    @property
    def own_checkpoint(self) -> Checkpoint | None:
        """What it goes on from, if that is its own and not a donor's."""
        return self.checkpoint if self.checkpoint and owner(self.checkpoint.key) == self.id else None

    @property
    def last(self) -> Result | None:
        """The newest result."""
        return max(self.results.values(), key=lambda result: result.seq, default=None)

    def best(self, metric: str, mode: str) -> Result | None:
        """The best iteration by a metric; one that is not a finite number never wins."""
        sign = 1 if mode == "max" else -1
        scored = [r for r in self.results.values() if is_number(r.metrics.get(metric))]
        return max(scored, key=lambda r: (sign * r.metrics[metric], -r.iteration), default=None)


def finite(value: Any) -> bool:
    """Whether a metric has not diverged; what is no number, such as a text, has not."""
    return not isinstance(value, float) or math.isfinite(value)


def is_number(value: Any) -> bool:
    """Whether a metric's value can be compared: a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


class SweepState:
    """The records of a sweep's trials, by id, in the order of their suggestion."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.trials: dict[str, TrialRecord] = {}
        self.events: list[Event] | None = []
        self.seq = 0
        for event in events:
            self.apply(event)

    @property
    def unfinished(self) -> list[TrialRecord]:
        """Trials that were suggested and have not ended."""
        return [trial for trial in self.trials.values() if not trial.ended]

    def count(self, *statuses: str) -> int:
        """How many trials have one of these statuses."""
        return sum(trial.status in statuses for trial in self.trials.values())

    def take_events(self) -> list[Event]:
        """What was folded in so far, for a replay; they are not kept from now on, as a long sweep has many."""
        events, self.events = self.events or [], None
        return events

    def apply(self, event: Event) -> None:
        """Folds one event in."""
        if self.events is not None:
            self.events.append(event)
        self.seq = max(self.seq, event["seq"])
        if event["type"] == "suggest":
            record = TrialRecord(event["trial"], event["config"], memory=event.get("memory", {}))
            self.trials[event["trial"]] = record
        elif (fold := getattr(self, f"_{event['type']}", None)) is not None:
            fold(self.trials[event["trial"]], event)

    def _result(self, trial: TrialRecord, event: Event) -> None:
        saved = Checkpoint.from_dict(event["checkpoint"]) if event["checkpoint"] else None
        # The configuration is written only when it changed; PBT changes it.
        trial.config = event.get("config", trial.config)
        result = Result(event["iteration"], event["metrics"], saved, trial.config, event["node"], event["seq"])
        trial.results[result.iteration] = result
        trial.checkpoint = saved or trial.checkpoint
        trial.status, trial.stop_decided = "running", event.get("stop", False)

    def _exploit(self, trial: TrialRecord, event: Event) -> None:
        trial.donors.append(event["donor"])
        trial.config = event["after"]
        trial.checkpoint = Checkpoint.from_dict(event["checkpoint"])

    def _damaged(self, trial: TrialRecord, event: Event) -> None:
        for result in trial.results.values():
            if result.checkpoint and result.checkpoint.key == event["checkpoint"]:
                result.checkpoint = None
        whole = (result for result in trial.results.values() if result.checkpoint)
        newest = max(whole, key=lambda result: result.seq, default=None)
        trial.checkpoint = newest.checkpoint if newest else None

    def _failure(self, trial: TrialRecord, event: Event) -> None:
        trial.failures.append(event["error"])
        trial.kinds.append(event["kind"])
        trial.status, trial.stop_decided = "pending", False

    def _complete(self, trial: TrialRecord, event: Event) -> None:
        trial.status = event["status"]
