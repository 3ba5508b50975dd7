"""Runs a sweep on a simulated clock: the same loop and the same strategies, with results from a function or a table.

    from raysweep.loop.simulation import Step, simulate

    def outcome(trial, config, iteration, state):
        return Step({"loss": config["x"] ** 2 / iteration}, seconds=60.0)

    state = simulate(tune_config, sweep, outcome, places=8)

No process is started and nothing waits: an hour of a trial takes only as long as the loop's decisions.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray import tune
from ray.exceptions import RayActorError

from raysweep import ray_private
from raysweep.history import checkpoint as checkpoints
from raysweep.history import journal, segments
from raysweep.history.checkpoint import Checkpoint
from raysweep.history.cost import Rate
from raysweep.history.journal import Journal
from raysweep.history.sweep_state import SweepState
from raysweep.loop.assemble import Assembly
from raysweep.loop.executor import Event, Failed, Reported, Returned, Share
from raysweep.loop.memory_storage import MemoryJournal, MemoryStorage
from raysweep.loop.observers import Observer
from raysweep.loop.outcomes import Fault, Outcome, Recorded, Step
from raysweep.loop.recorder import Recorder
from raysweep.spec.flags import Flags
from raysweep.spec.sweep import Sweep
from raysweep.storage import Storage
from raysweep.trial.actor import NotFinite
from raysweep.trial.metrics import Unreported, filled_in, plain_metrics
from raysweep.trial.run import Run
from raysweep.trial.session import HOST, OPTIMISED, Report
from raysweep.values import TIME_TOTAL_S, TRAINING_ITERATION, finite

__all__ = ["Fault", "Outcome", "Recorded", "Simulation", "Step", "simulate"]

NODE = "simulation"  # where all trials ran


@dataclass(eq=False)
class _Running:
    """A running trial, from its start to its end or stop."""

    run: Run
    order: int
    deadline: float
    state: Any
    iteration: int = 0
    spent: float = 0.0
    took: float = 0.0  # duration of the current iteration
    event_number: int = -1  # of its next event; any other scheduled event of it is cancelled
    reports: list[dict[str, Any]] = field(default_factory=list)  # since the newest checkpoint
    restored: Checkpoint | None = None  # until its first report
    after: Checkpoint | None = None  # the newest checkpoint


class Simulation:
    """Runs trials on a simulated clock; events of the same moment come in the order in which trials were started.

    Args:
        outcome: returns the outcome of an iteration.
        max_iterations: of a complete trial.
        places: trials at the same time.
        storage: where trials save their states; in memory if not given.
        faults: what goes wrong, by trial and iteration; `max_iterations + 1` means after the last iteration.
        numeric: metrics that must be numbers: what is optimised.
        finite: metrics that must be finite numbers; a trial that reports another value fails.
        timeout: seconds after which a trial's process is killed.
    """

    def __init__(
        self,
        outcome: Outcome,
        max_iterations: int,
        places: int = 1,
        storage: Storage | None = None,
        faults: Mapping[tuple[str, int], Fault] | None = None,
        numeric: tuple[str, ...] = (),
        finite: tuple[str, ...] = (),
        timeout: float | None = None,
    ) -> None:
        self._outcome, self._max_iterations, self._places = outcome, max_iterations, places
        self._storage, self._faults = storage or MemoryStorage(), faults or {}
        self._numeric, self._finite, self._timeout = numeric, finite, timeout or math.inf
        self._now, self._requested = 0.0, places
        self._running: dict[str, _Running] = {}
        self._occurred: Counter[tuple[str, int]] = Counter()  # how often a fault has occurred
        self._numbers = itertools.count()
        self._scheduled: list[tuple[float, int, int, _Running, Step | Event]] = []  # a heap: second, order, number

    def request_places(self, count: int) -> None:
        """Sets how many trials may run at the same time from now on."""
        self._requested = count

    @property
    def has_place(self) -> bool:
        """Whether another trial may run."""
        return len(self._running) < min(self._places, self._requested)

    def start(self, run: Run, share: Share | None = None) -> None:
        """Runs a trial from its beginning or a checkpoint; every place is large enough for any share."""
        start, state = checkpoints.load_newest(self._storage, run.start) if run.start else (None, None)
        trial = _Running(
            run, next(self._numbers), self._now + max(self._timeout - run.spent, 1.0), state,
            iteration=start.iteration if start else 0, spent=run.spent, restored=start, after=start,
        )  # fmt: skip
        self._running[run.trial] = trial
        self._continue(trial)

    def step(self, trial: str) -> None:
        """Lets a trial that has reported continue."""
        self._continue(self._running[trial])

    def stop(self, trial: str) -> None:
        """Ends a running trial at once."""
        del self._running[trial]

    def kill(self, trial: str) -> None:
        """Ends a running trial; a `Failed` follows."""
        self._schedule(self._running[trial], self._now, Failed(trial, RayActorError()))

    def _continue(self, trial: _Running) -> None:
        trial.took, outcome = self._next(trial)
        if self._now + trial.took > trial.deadline:
            self._schedule(trial, trial.deadline, Failed(trial.run.trial, RayActorError()))
        else:
            self._schedule(trial, self._now + trial.took, outcome)

    def _schedule(self, trial: _Running, second: float, outcome: Step | Event) -> None:
        trial.event_number = next(self._numbers)  # this cancels an event that was scheduled before
        heapq.heappush(self._scheduled, (second, trial.order, trial.event_number, trial, outcome))

    def _next(self, trial: _Running) -> tuple[float, Step | Event]:
        """What a trial does next, and after how many seconds."""
        name, iteration, step = trial.run.trial, trial.iteration + 1, None
        fault = self._fault(name, iteration)
        try:
            if iteration <= self._max_iterations and not fault.returns:
                step = self._outcome(name, dict(trial.run.config), iteration, trial.state)
            if fault.error is not None:
                raise fault.error
            if step is None and trial.iteration == 0:
                raise Unreported("the training function returned without a report")
        except Exception as error:
            return fault.delay + (step.seconds if step else 0.0), Failed(name, error)
        return (fault.delay, Returned(name)) if step is None else (fault.delay + step.seconds, step)

    def _fault(self, trial: str, iteration: int) -> Fault:
        fault = self._faults.get((trial, iteration))
        if fault is None or self._occurred[trial, iteration] >= fault.times:
            return Fault()
        self._occurred[trial, iteration] += 1
        return fault

    def wait(self, seconds: float) -> Sequence[Event]:
        """Moves the clock to the next event, by at most this many seconds; returns the events of that moment."""
        self._drop_cancelled()
        self._now = min(self._now + seconds, self._scheduled[0][0] if self._scheduled else math.inf)
        events = []
        while self._scheduled and self._scheduled[0][0] <= self._now:
            trial, outcome = heapq.heappop(self._scheduled)[3:]
            events.append(self._event(trial, outcome))
            self._drop_cancelled()
        return events

    def _drop_cancelled(self) -> None:
        """Removes the next events of trials that were stopped or killed."""
        while self._scheduled and self._is_cancelled(*self._scheduled[0][2:4]):
            heapq.heappop(self._scheduled)

    def _is_cancelled(self, number: int, trial: _Running) -> bool:
        return trial.event_number != number or self._running.get(trial.run.trial) is not trial

    def _event(self, trial: _Running, outcome: Step | Event) -> Event:
        if isinstance(outcome, Step):
            try:
                return Reported(trial.run.trial, self._report(trial, outcome))
            except Exception as error:  # as `raysweep.report` raises it in the function
                outcome = Failed(trial.run.trial, error)
        del self._running[trial.run.trial]
        return outcome

    def _report(self, trial: _Running, step: Step) -> Report:
        """Saves and reports, as a trial's session does."""
        plain = plain_metrics(step.metrics, self._numeric)
        metrics = filled_in(plain, trial.iteration + 1, trial.took, trial.spent, self._numeric)
        for name in self._finite:
            if not finite(metrics.get(name)):
                raise NotFinite(f"metric `{name}` is {metrics[name]}")
        trial.iteration, trial.spent = trial.iteration + 1, float(metrics[TIME_TOTAL_S])
        trial.reports.append({**metrics, TRAINING_ITERATION: trial.iteration})
        saved = self._save(trial, step.state) if step.state is not None else None
        restored, trial.restored = trial.restored, None
        return Report(trial.iteration, metrics, saved, restored, NODE)

    def _save(self, trial: _Running, state: Any) -> Checkpoint:
        after = trial.after.to_dict() if trial.after else None
        note: dict[str, Any] = {"after": after, "reports": trial.reports, "config": trial.run.written, HOST: NODE}
        note[OPTIMISED] = [*self._numeric]
        saved = checkpoints.save(self._storage, trial.run.trial, trial.iteration, state, note)
        trial.after, trial.state, trial.reports = saved, state, []
        return saved

    def waiting_for(self) -> str:
        """There are no other users who could hold places."""
        return "the simulation has no more places"

    def clock(self) -> float:
        """Simulated seconds since the start."""
        return self._now

    def close(self) -> None:
        """Ends all trials."""
        self._running.clear()
        self._scheduled.clear()


def simulate(
    config: tune.TuneConfig,
    sweep: Sweep,
    outcome: Outcome,
    *,
    places: int = 1,
    flags: Flags | None = None,
    storage: Storage | None = None,
    faults: Mapping[tuple[str, int], Fault] | None = None,
    observer: Observer | None = None,
    rate: Rate | None = None,
) -> SweepState:
    """Runs a sweep in a simulation, from its beginning or from its journal.

    Args:
        config: of the strategy: `strategy(name).tune_config(sweep, knobs)`, as a file of jobs/ returns it.
        sweep: the sweep's settings.
        outcome: returns the outcome of an iteration of a trial.
        places: trials at the same time.
        flags: the limits of trials and sweep, as for a job; other flags are ignored.
        storage: the sweep's own, for its journal and its trials' states; in memory if not given.
        faults: what goes wrong, by trial and iteration.
        observer: is notified of events.
        rate: what the sweep costs by the hour, for the budget in `flags`.

    Returns:
        The final state of the trials.

    Raises:
        SweepFailed: no trial is running, and none can ever start.
    """
    settings, place = flags or Flags(), storage if storage is not None else MemoryStorage()
    parts, state = Assembly(config, sweep, settings), SweepState(journal.read(place))
    simulation = Simulation(
        outcome, sweep.max_iterations, places, place, faults, parts.metrics, parts.must_be_finite, parts.hard_timeout
    )
    with ray_private.quiet(), contextlib.closing(_journal(place, state, simulation.clock)) as log:
        recorder = Recorder(place, log, state, sweep.metric, sweep.mode)
        recorder.begin(bool(state.trials), parts.trial_limits)
        plan = parts.plan(places, {"cpus": math.inf, "gpus": math.inf}, rate)
        parts.run(plan, simulation, recorder, observer or Observer())
    return state


def _journal(storage: Storage, state: SweepState, clock: Callable[[], float]) -> Journal:
    term = segments.last_term(storage) + 1
    if isinstance(storage, MemoryStorage):
        return MemoryJournal(storage, term, state.seq, clock)
    return Journal(storage, term, state.seq)
