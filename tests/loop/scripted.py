"""The real loop on an executor whose events a test writes: one life of a driver after the other, on one journal."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.exceptions import ActorDiedError
from ray.tune.schedulers import FIFOScheduler

from raysweep.history import journal
from raysweep.history.checkpoint import save
from raysweep.history.journal import Journal
from raysweep.history.sweep_state import SweepState
from raysweep.loop.controller import Controller
from raysweep.loop.executor import Event, Failed, Reported, Share
from raysweep.loop.loop import Loop, Plan
from raysweep.loop.observers import Observer
from raysweep.loop.random_grid_search import Variants
from raysweep.loop.recorder import Recorder
from raysweep.loop.scheduler import Scheduler
from raysweep.loop.stopping import TrialLimits
from raysweep.storage import Storage
from raysweep.trial.run import Run
from raysweep.trial.session import Report

Step = Event | float | Callable[[], Any]
LAST = 9
SPACE = {"lr": tune.uniform(0.0, 1.0)}


class DriverKilled(BaseException):
    """The script has come to its end."""


class Scripted:
    """Trials do what a test says: the next event comes when the loop waits.

    A number lets so many seconds pass instead, and a function is called.
    """

    def __init__(self) -> None:
        self.script: deque[Step] = deque()
        self.dies_in = ""  # the call in which the driver is killed
        self.now, self.places, self._requested = 1000.0, 99, 0
        self.started: list[Run] = []
        self.shares: list[Share | None] = []
        self.running: set[str] = set()
        self.stopped: list[str] = []
        self.killed: list[str] = []

    def request_places(self, count: int) -> None:
        self._requested = count

    @property
    def has_place(self) -> bool:
        return len(self.running) < min(self.places, self._requested)

    def start(self, run: Run, share: Share | None = None) -> None:
        assert run.trial not in self.running
        self.running.add(run.trial)
        self.started.append(run)
        self.shares.append(share)

    def step(self, trial: str) -> None:
        self._do("step", trial)

    def stop(self, trial: str) -> None:
        self._do("stop", trial)
        self.running.remove(trial)
        self.stopped.append(trial)

    def kill(self, trial: str) -> None:
        self._do("kill", trial)
        self.killed.append(trial)
        self.script.appendleft(Failed(trial, ActorDiedError()))

    def _do(self, verb: str, trial: str) -> None:
        assert trial in self.running
        if verb == self.dies_in:
            raise DriverKilled

    def wait(self, seconds: float) -> list[Event]:
        if not self.script:
            raise DriverKilled
        event = self.script.popleft()
        if callable(event):
            event()
        elif isinstance(event, float | int):
            self.now += event
        else:
            return self._happens(event)
        return []

    def _happens(self, event: Event) -> list[Event]:
        assert event.trial in self.running, f"{event.trial} does not run"
        if not isinstance(event, Reported):
            self.running.remove(event.trial)
        return [event]

    def waiting_for(self) -> str:
        return ""

    def clock(self) -> float:
        return self.now

    def close(self) -> None: ...


class Watched(Variants):
    """Random search that records what it was called with."""

    def __init__(self) -> None:
        super().__init__(SPACE)
        self.adopted: list[tuple[str, str]] = []
        self.completed: list[tuple[str, dict[str, Any] | None, bool]] = []

    def begin(self, adopted: Any) -> None:
        self.adopted = [(trial.id, trial.status) for trial in adopted]
        super().begin(adopted)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.completed.append((trial_id, result, error))


class Driver:
    """One life of a driver, up to the end of its script: what it decided is in the journal."""

    def __init__(self, place: Storage, scheduler: Any = None, **plan: Any) -> None:
        self.place, self._closed = place, False
        self.plan = Plan(**{"total": 3, "max_iterations": LAST, "metrics": ("loss",), "concurrency": 2, **plan})
        state = SweepState(journal.read(place))
        self.journal = Journal(place, len(place.list("journal/")) + 1, state.seq)
        self.recorder = Recorder(place, self.journal, state, "loss", "min")
        self.state, self.executor, self.searcher = state, Scripted(), Watched()
        scheduler = scheduler or FIFOScheduler()
        for each in (self.searcher, scheduler):
            each.set_search_properties("loss", "min", *([SPACE] if each is self.searcher else []))
        limits = TrialLimits(self.plan.max_iterations, ("loss",), self.plan.timeout)
        controller = Controller(Scheduler(scheduler, 0, "min"), limits, self.plan.max_iterations)
        self.recorder.begin(resumed=bool(state.trials))
        self.loop = Loop(self.plan, self.searcher, controller, self.executor, self.recorder, Observer())

    def run(self, *events: Step, dies_in: str = "") -> Driver:
        """Until these have happened and the loop waits for more; or until it ends, or is killed in an executor call."""
        self.executor.script.extend(events)
        self.executor.dies_in = dies_in
        with contextlib.suppress(DriverKilled):
            self.loop.run()
        assert not self.executor.script
        self.close()
        return self

    def close(self) -> None:
        """It is gone, without an `end` in its journal."""
        if not self._closed:
            self._closed = True
            self.recorder.close()
            self.journal.close()

    @property
    def started(self) -> list[str]:
        """The trials that were started, in order."""
        return [run.trial for run in self.executor.started]

    def status(self, trial: str) -> str:
        """What the journal says of a trial."""
        return SweepState(journal.read(self.place)).trials[trial].status

    def reported(self, trial: str, iteration: int, loss: float = 1.0, saves: bool = True, **metrics: Any) -> Reported:
        """A report, whose checkpoint is there."""
        saved = save(self.place, trial, iteration, iteration) if saves else None
        return Reported(trial, Report(iteration, {"loss": loss, "time_total_s": float(iteration), **metrics}, saved))


def failed(trial: str, error: BaseException | None = None) -> Failed:
    """Its function raised this, or its process is gone."""
    return Failed(trial, error or ActorDiedError())
