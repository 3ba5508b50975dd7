"""What a sweep's journal says, folded into one record per trial. Live and resumed sweeps fold the same events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from raysweep.history.checkpoint import Checkpoint, owner
from raysweep.history.journal import Event
from raysweep.values import is_number

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

    `results` holds one entry per iteration: a trial that went back to a checkpoint overwrites what it repeats. `last`
    is the newest; `saved` holds all results that have a checkpoint, oldest first; `abandoned` those that an exploit
    left behind, since it goes on from an earlier iteration. `stop_decided` says that the newest result was answered
    with a stop; the trial's end follows it in the journal, unless the driver was killed between the two. `kinds` says
    of each failure what it was, see `loop.failures`.
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
    last: Result | None = None
    saved: list[Result] = field(default_factory=list)
    abandoned: list[Result] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether the trial will run no more."""
        return self.status in ENDED

    @property
    def own_checkpoint(self) -> Checkpoint | None:
        """What it goes on from, if that is its own and not a donor's."""
        return self.checkpoint if self.checkpoint and owner(self.checkpoint.key) == self.id else None

    def forget_checkpoint(self, result: Result) -> None:
        """A result's checkpoint is there no more, or is not whole."""
        result.checkpoint = None
        self.saved = [each for each in self.saved if each is not result]

    def counts(self, result: Result) -> bool:
        """Whether a result is still one of the trial's: it was not done again, or an exploit left it behind."""
        return self.results.get(result.iteration) is result or any(each is result for each in self.abandoned)

    def last_with(self, metrics: Iterable[str]) -> Result | None:
        """The newest result that has all of these metrics, which a task may report now and then only.

        None if one of them is no number there: the trial has diverged, whatever it has reported before.
        """
        names = tuple(metrics)
        newest = self.last
        if newest is None or not all(name in newest.metrics for name in names):
            whole = (result for result in self.results.values() if all(name in result.metrics for name in names))
            newest = max(whole, key=lambda result: result.seq, default=None)
        return newest if newest and all(is_number(newest.metrics[name]) for name in names) else None

    def has_reported(self, metrics: Iterable[str]) -> bool:
        """Whether each of these metrics was in some report, whatever its value."""
        names = tuple(metrics)
        if self.last is not None and all(name in self.last.metrics for name in names):
            return True
        return all(any(name in result.metrics for result in self.results.values()) for name in names)

    def best(self, metric: str, mode: str) -> Result | None:
        """The best result by a metric; one that is not a finite number never wins.

        One that an exploit left behind may be the best: its checkpoint was kept for that, and those of the results that
        would be next were not.
        """
        sign = 1 if mode == "max" else -1
        scored = [r for r in (*self.results.values(), *self.abandoned) if is_number(r.metrics.get(metric))]
        return max(scored, key=lambda r: (sign * r.metrics[metric], -r.iteration), default=None)


class SweepState:
    """The records of a sweep's trials, by id, in the order of their suggestion."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.trials: dict[str, TrialRecord] = {}
        self._by_status: Counter[str] = Counter()
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
        return sum(self._by_status[status] for status in statuses)

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
            self._by_status[record.status] += 1
        elif (fold := getattr(self, f"_{event['type']}", None)) is not None:
            fold(self.trials[event["trial"]], event)

    def _set_status(self, trial: TrialRecord, status: str) -> None:
        self._by_status[trial.status] -= 1
        self._by_status[status] += 1
        trial.status = status

    def _result(self, trial: TrialRecord, event: Event) -> None:
        saved = Checkpoint.from_dict(event["checkpoint"]) if event["checkpoint"] else None
        # The configuration is written only when it changed; PBT changes it.
        trial.config = event.get("config", trial.config)
        result = Result(event["iteration"], event["metrics"], saved, trial.config, event["node"], event["seq"])
        before = trial.results.get(result.iteration)
        trial.results[result.iteration] = trial.last = result
        if before is not None and saved:  # the same bytes have the same key: there is one checkpoint then
            trial.saved = [each for each in trial.saved if each.checkpoint and each.checkpoint.key != saved.key]
        if saved:
            trial.saved.append(result)
        trial.checkpoint = saved or trial.checkpoint
        trial.stop_decided = event.get("stop", False)
        self._set_status(trial, "running")

    def _exploit(self, trial: TrialRecord, event: Event) -> None:
        trial.donors.append(event["donor"])
        trial.config = event["after"]
        trial.checkpoint = given = Checkpoint.from_dict(event["checkpoint"])
        known = {id(result) for result in trial.abandoned}
        behind = [result for result in trial.results.values() if result.iteration > given.iteration]
        trial.abandoned += [result for result in behind if id(result) not in known]

    def _damaged(self, trial: TrialRecord, event: Event) -> None:
        for result in list(trial.saved):
            if result.checkpoint and result.checkpoint.key == event["checkpoint"]:
                trial.forget_checkpoint(result)
        trial.checkpoint = trial.saved[-1].checkpoint if trial.saved else None

    def _failure(self, trial: TrialRecord, event: Event) -> None:
        trial.failures.append(event["error"])
        trial.kinds.append(event["kind"])
        trial.stop_decided = False
        self._set_status(trial, "pending")

    def _complete(self, trial: TrialRecord, event: Event) -> None:
        self._set_status(trial, event["status"])
