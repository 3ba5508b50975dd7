"""The state of a sweep: its journal, folded into one record per trial, in running and in resumed sweeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from raysweep.history.checkpoint import Checkpoint, owner
from raysweep.history.segments import Event
from raysweep.values import TIME_THIS_ITER_S, is_number

# finished: did all iterations, or returned; stopped: by a scheduler, a limit or nan; infeasible: fits on no node.
ENDED = ("finished", "stopped", "failed", "infeasible")
# What ended a trial with its newest result: a limit, such as its last iteration, its time or nan, or the scheduler.
# Journals of before have just True.
BY_LIMIT, BY_SCHEDULER = "limit", "scheduler"


@dataclass
class Result:
    """One iteration of a trial."""

    iteration: int
    metrics: dict[str, Any]
    checkpoint: Checkpoint | None
    config: dict[str, Any]
    node: str
    seq: int
    time: float = 0.0  # when it was reported, in seconds since the epoch


@dataclass
class TrialRecord:
    """Everything that the journal says about one trial.

    `results` has one entry per iteration: a trial that went back to a checkpoint overwrites the iterations it repeats.
    `last` is the newest result; `saved` are all results with a checkpoint, oldest first; `abandoned` are those after
    the earlier iteration from which an exploit continued. `stop_decided` means that the trial was stopped at
    its newest result; the trial's end follows in the journal, unless the driver was killed in between. `stopped_by`
    says who decided that, if the journal does. `kinds` has the kind of each failure, see `loop.failures`; the first
    `retried` ones were before the trial was tried again. `printed` has the last lines that the trial printed before
    each.
    `began` and `completed` are seconds since the epoch: when its first iteration began, or, without any report, when it
    was suggested; and when it ended.
    """

    id: str
    config: dict[str, Any]
    status: str = "pending"
    results: dict[int, Result] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    donors: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    printed: list[list[str]] = field(default_factory=list)
    retried: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    stop_decided: bool = False
    stopped_by: str = ""
    began: float = 0.0
    completed: float = 0.0
    last: Result | None = None
    saved: list[Result] = field(default_factory=list)
    abandoned: list[Result] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether the trial has ended for good."""
        return self.status in ENDED

    @property
    def failed(self) -> bool:
        """Whether the trial has failed for good, or fits on no node."""
        return self.status in ("failed", "infeasible")

    @property
    def own_checkpoint(self) -> Checkpoint | None:
        """The checkpoint that the trial continues from, if it is its own and not a donor's."""
        return self.checkpoint if self.checkpoint and owner(self.checkpoint.key) == self.id else None

    def forget_checkpoint(self, result: Result) -> None:
        """Called if the checkpoint of a result was deleted, or is damaged."""
        result.checkpoint = None
        self.saved = [each for each in self.saved if each is not result]

    def counts(self, result: Result) -> bool:
        """Whether a result is still valid: its iteration was not repeated, or an exploit abandoned it."""
        return self.results.get(result.iteration) is result or any(each is result for each in self.abandoned)

    def nearest_saved(self, result: Result) -> Result | None:
        """A result itself if it has a checkpoint, else the nearest one that has: of two, the earlier."""
        if result.checkpoint:
            return result
        return min(self.saved, key=lambda each: (abs(each.iteration - result.iteration), each.iteration), default=None)

    def last_with(self, metrics: Iterable[str]) -> Result | None:
        """The newest result that has all of these metrics, which a task need not report in every iteration.

        None if one of them is not a number there: the trial has diverged, whatever it reported before.
        """
        names = tuple(metrics)
        newest = self.last
        if newest is None or not all(name in newest.metrics for name in names):
            complete = (result for result in self.results.values() if all(name in result.metrics for name in names))
            newest = max(complete, key=lambda result: result.seq, default=None)
        return newest if newest and all(is_number(newest.metrics[name]) for name in names) else None

    def has_reported(self, metrics: Iterable[str]) -> bool:
        """Whether each of these metrics was in at least one report, with any value."""
        names = tuple(metrics)
        if self.last is not None and all(name in self.last.metrics for name in names):
            return True
        return all(any(name in result.metrics for result in self.results.values()) for name in names)

    def best(self, metric: str, mode: str) -> Result | None:
        """The best result by a metric; only finite numbers count.

        A result that an exploit abandoned may be the best: its checkpoint was kept for that, while those of the next
        best results were not.
        """
        sign = 1 if mode == "max" else -1
        scored = [r for r in (*self.results.values(), *self.abandoned) if is_number(r.metrics.get(metric))]
        return max(scored, key=lambda r: (sign * r.metrics[metric], -r.iteration), default=None)


class SweepState:
    """The records of a sweep's trials, by id, in the order in which they were suggested.

    Of all that was reported, also of what was repeated or abandoned: `reports` is how many there were, `saves` how many
    of them with a checkpoint, `saved_bytes` the sizes of these, and `stalled_s` the seconds that saving them took.
    `failed_by` counts the failures by their kind.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.trials: dict[str, TrialRecord] = {}
        self._by_status: Counter[str] = Counter()
        self.failed_by: Counter[str] = Counter()
        self.reports = self.saves = self.saved_bytes = 0
        self.stalled_s = 0.0
        self.events: list[Event] | None = []
        self.seq = 0
        self.warm_start: list[dict[str, Any]] | None = None  # what came in from earlier sweeps, see `driver.warm_start`
        self.out_of_budget = False  # whether the newest driver has left since a budget of time or money was used up
        self.status = ""  # running, interrupted or ended: of the newest driver, who may have been killed meanwhile
        for event in events:
            self.apply(event)

    @property
    def unfinished(self) -> list[TrialRecord]:
        """The trials that have not ended."""
        return [trial for trial in self.trials.values() if not trial.ended]

    def count(self, *statuses: str) -> int:
        """How many trials have one of these statuses."""
        return sum(self._by_status[status] for status in statuses)

    @property
    def exit_code(self) -> int | None:
        """That of the newest driver, as its journal tells it; None while it runs, or if it died."""
        if self.status not in ("ended", "interrupted"):
            return None
        complete = self.status == "ended" or self.out_of_budget
        reported = self.out_of_budget or any(trial.last for trial in self.trials.values())
        return 0 if complete and reported and not self.count("failed") else 1

    def take_events(self) -> list[Event]:
        """The events so far, for a replay. From now on events are not kept, since a long sweep has many."""
        events, self.events = self.events or [], None
        return events

    def apply(self, event: Event) -> None:
        """Updates the records with one event."""
        if self.events is not None:
            self.events.append(event)
        self.seq = max(self.seq, event["seq"])
        if event["type"] == "suggest":
            self._add(TrialRecord(event["trial"], event["config"], memory=event.get("memory", {}), began=_time(event)))
        elif event["type"] in ("start", "end"):
            self.status, self.out_of_budget = event.get("status", "running"), event.get("out_of_budget", False)
            self.warm_start = event.get("warm_start", self.warm_start)
        elif event["type"] == "pruned":
            self._forget_checkpoints({*event["kept"]})
        elif (fold := getattr(self, f"_{event['type']}", None)) is not None:
            if event["trial"] not in self.trials:  # its `suggest` is lost: see `repair`
                self._add(TrialRecord(event["trial"], {}))
            fold(self.trials[event["trial"]], event)

    def _add(self, trial: TrialRecord) -> None:
        self.trials[trial.id] = trial
        self._by_status[trial.status] += 1

    def _set_status(self, trial: TrialRecord, status: str) -> None:
        self._by_status[trial.status] -= 1
        self._by_status[status] += 1
        trial.status = status

    def _result(self, trial: TrialRecord, event: Event) -> None:
        saved = Checkpoint.from_dict(event["checkpoint"]) if event["checkpoint"] else None
        # An event has the configuration only if it changed, as PBT does.
        trial.config = event.get("config", trial.config)
        metrics, time = event["metrics"], _time(event)
        self.reports += 1
        if saved:
            self.saves += 1
            self.saved_bytes += saved.size
            self.stalled_s += event.get("stalled", 0.0)
        result = Result(event["iteration"], metrics, saved, trial.config, event["node"], event["seq"], time)
        if trial.last is None:
            trial.began = max(trial.began, time - metrics.get(TIME_THIS_ITER_S, 0.0))
        previous = trial.results.get(result.iteration)
        trial.results[result.iteration] = trial.last = result
        if previous is not None and saved:  # equal bytes have the same key, so the checkpoint is the same one
            trial.saved = [each for each in trial.saved if each.checkpoint and each.checkpoint.key != saved.key]
        if saved:
            trial.saved.append(result)
        trial.checkpoint = saved or trial.checkpoint
        stop = event.get("stop")
        trial.stop_decided, trial.stopped_by = bool(stop), stop if isinstance(stop, str) else ""
        self._set_status(trial, "running")

    def _exploit(self, trial: TrialRecord, event: Event) -> None:
        trial.donors.append(event["donor"])
        trial.config = event["after"]
        trial.checkpoint = donated = Checkpoint.from_dict(event["checkpoint"])
        abandoned_ids = {id(result) for result in trial.abandoned}
        later = [result for result in trial.results.values() if result.iteration > donated.iteration]
        trial.abandoned += [result for result in later if id(result) not in abandoned_ids]

    def _damaged(self, trial: TrialRecord, event: Event) -> None:
        for result in list(trial.saved):
            if result.checkpoint and result.checkpoint.key == event["checkpoint"]:
                trial.forget_checkpoint(result)
        trial.checkpoint = trial.saved[-1].checkpoint if trial.saved else None

    def _failure(self, trial: TrialRecord, event: Event) -> None:
        trial.failures.append(event["error"])
        trial.kinds.append(event["kind"])
        trial.printed.append(event.get("printed", []))
        self.failed_by[event["kind"]] += 1
        trial.stop_decided = False
        self._set_status(trial, "pending")

    def _retry(self, trial: TrialRecord, event: Event) -> None:
        trial.retried = len(trial.failures)
        self._set_status(trial, "pending")

    def _forget_checkpoints(self, kept: set[str]) -> None:
        """Those of all trials but these were removed: a trial that is tried again begins anew."""
        for trial in self.trials.values():
            for result in trial.saved if trial.id not in kept else []:
                trial.forget_checkpoint(result)
            if trial.checkpoint and owner(trial.checkpoint.key) not in kept:
                trial.checkpoint = trial.saved[-1].checkpoint if trial.saved else None

    def _complete(self, trial: TrialRecord, event: Event) -> None:
        self._set_status(trial, event["status"])
        trial.completed = _time(event)


def first_line(error: str) -> str:
    """The line that says what happened: of a traceback the one behind its last line of code."""
    lines = [line for line in error.splitlines() if line.strip()]
    code = max((n for n, line in enumerate(lines) if line.startswith((" ", "\t"))), default=-1)
    return (lines[code + 1] if code + 1 < len(lines) else lines[-1]).strip() if lines else "no error was recorded"


def _time(event: Event) -> float:
    return float(event.get("time", 0.0))
