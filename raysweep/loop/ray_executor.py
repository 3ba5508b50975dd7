"""Runs trials on a Ray cluster: plain actors, each in a place of its own, used for one trial after the other."""

from __future__ import annotations

import contextlib
import queue
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import ray

from raysweep.loop.executor import Event, Failed, Reported, Returned, Share
from raysweep.loop.failures import Kind, kind_of
from raysweep.loop.places import YIELD_S, Neighbours, Place, Stage, reserve
from raysweep.trial.actor import Over, TrialActor
from raysweep.trial.run import Run, TrialSpec
from raysweep.trial.session import Report

QUICK_END_S = 1.0  # a function that needs longer to clean up does so while its next trial gets another place
ANSWER_S = 5.0  # beyond its clean-up, in which a process has to answer


@dataclass(frozen=True)
class Answer:
    """What came back from a place's process: to which call, for which trial, and what."""

    place: Place
    trial: str | None
    future: Future[Any]


class RayExecutor:
    """Runs trials on the connected cluster.

    Args:
        spec: what all trials share.
        name: of the sweep; others on the cluster see it.
        share: what a trial is given.
        log_name: shown in the logs before what trials print.
        reuse: whether the next trial may run in the process of the last one.
        cleanup: seconds in which a function that was stopped may clean up.
    """

    def __init__(
        self,
        spec: TrialSpec,
        name: str,
        share: Share,
        log_name: str = "trial",
        reuse: bool = True,
        cleanup: float = 60.0,
    ) -> None:
        self._name, self._share, self._reuse, self._cleanup = name, share, reuse, cleanup
        self._actor = ray.remote(type(log_name, (TrialActor,), {}))
        self._spec = ray.put(spec)
        self._data: list[ray.ObjectRef] = []
        self._neighbours = Neighbours(name)
        self._places: list[Place] = []
        self._of: dict[str, Place] = {}
        self._queued: deque[tuple[Run, Share]] = deque()  # trials that need another share than the others
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._failed: deque[Failed] = deque()
        self._start_error: BaseException | None = None  # of a process that did not come up
        self._yields_until = 0.0

    def set_data(self, data: ray.ObjectRef | None) -> None:
        """The task's data, which are loaded while the first places start."""
        self._data = [] if data is None else [data]

    # Places.

    def want(self, places: int) -> None:
        """Asks for places that are missing, and gives back those that are too many."""
        self._close_late()
        usable = [place for place in self._places if self._counts(place)]
        for _ in range(places - len(usable)):
            if self._queued or self._yields():
                break
            self._reserve(self._share)
        spare = [place for place in usable if place.stage is Stage.STARTING]
        spare += [place for place in usable if place.stage is Stage.IDLE]
        for place in spare[: max(len(usable) - places, 0)]:
            self._close(place)

    def _yields(self) -> bool:
        """Whether a place that was given back is still left to whom it was given back for."""
        return time.monotonic() < self._yields_until and self._neighbours.wait_for_some(self._held() + 1)

    def _counts(self, place: Place) -> bool:
        late = place.stage is Stage.ENDING and time.monotonic() - place.since > QUICK_END_S
        return place.share == self._share and not late

    def _close_late(self) -> None:
        for place in list(self._places):
            if place.stage is Stage.ENDING and time.monotonic() - place.since > self._cleanup + ANSWER_S:
                self._close(place)

    def _reserve(self, share: Share) -> Place:
        place = reserve(self._name, share, lambda **options: self._actor.options(**options).remote())
        self._places.append(place)
        self._ask(place, None, place.actor.prepare.remote(self._spec))
        return place

    def _close(self, place: Place) -> None:
        self._places.remove(place)
        place.close()

    def _ask(self, place: Place, trial: str | None, answer: ray.ObjectRef) -> None:
        answer.future().add_done_callback(lambda future: self._answers.put(Answer(place, trial, future)))

    @property
    def has_place(self) -> bool:
        """Whether a process waits for a trial; one that did not come up fails the trial that is given to it."""
        return not self._queued and (self._start_error is not None or self._idle(self._share) is not None)

    def _idle(self, share: Share) -> Place | None:
        return next((place for place in self._places if place.stage is Stage.IDLE and place.share == share), None)

    # Trials.

    def start(self, run: Run, share: Share | None = None) -> None:
        """Runs a trial in a place that is idle; one that needs another share gets a new place."""
        wanted = share or self._share
        if self._start_error is not None:
            self._failed.append(Failed(run.trial, self._start_error))
            self._start_error = None
            return
        place = self._idle(wanted)
        if place is None:
            self._queued.append((run, wanted))
            self._reserve(wanted)
            self._make_room()
            return
        place.enter(Stage.BUSY, run.trial)
        self._of[run.trial] = place
        self._ask(place, run.trial, place.actor.start.remote(run, self._data))

    def _make_room(self) -> None:
        """Gives idle places back, which a trial that needs a larger one may be waiting for."""
        for place in list(self._places):
            if place.stage is Stage.IDLE:
                self._close(place)

    def step(self, trial: str) -> None:
        """Lets a trial that has reported go on."""
        if trial in self._of:  # not one that has returned right after its last report
            place = self._of[trial]
            self._ask(place, trial, place.actor.step.remote())

    def stop(self, trial: str) -> None:
        """Ends a trial that has reported; its function may clean up."""
        place = self._of.pop(trial, None)
        if place is not None:  # else it has returned, or its process is gone
            place.enter(Stage.ENDING, trial)
            self._ask(place, None, place.actor.end.remote(self._cleanup))

    def kill(self, trial: str) -> None:
        """Ends a trial's process."""
        queued = next((each for each in self._queued if each[0].trial == trial), None)
        if queued is not None:
            self._queued.remove(queued)
            self._failed.append(Failed(trial, TimeoutError("no node had room for it")))
        elif trial in self._of:
            ray.kill(self._of[trial].actor)

    # Events.

    def wait(self, seconds: float) -> Sequence[Event]:
        """The next events; none after so many seconds, or when a place has become free."""
        answers = []
        with contextlib.suppress(queue.Empty):
            answers.append(self._answers.get(timeout=0 if self._failed else seconds))
            while True:
                answers.append(self._answers.get_nowait())
        events = [event for answer in answers for event in self._understand(answer)]
        failed, self._failed = list(self._failed), deque()
        return [*events, *failed]

    def _understand(self, answer: Answer) -> Iterator[Event]:
        place, trial, error = answer.place, answer.trial, answer.future.exception()
        if place not in self._places or (trial is not None and place.stage is Stage.ENDING):
            return  # it was given back, or the trial was stopped, in the meantime
        if error is not None:
            yield from self._on_error(place, trial, error)
            return
        value = answer.future.result()
        if trial is not None and isinstance(value, Report):
            yield Reported(trial, value)
            return
        self._free(place, clean=not isinstance(value, Over) or (value.clean and self._reuse))
        if trial is not None:
            self._of.pop(trial, None)
            if value.report is not None:
                yield Reported(trial, value.report)
            yield Returned(trial)

    def _on_error(self, place: Place, trial: str | None, error: BaseException) -> Iterator[Event]:
        # What raised may have left anything behind, a broken GPU context for one: the process is not used again.
        self._close(place)
        if trial is not None:
            self._of.pop(trial, None)
            yield Failed(trial, error)
        elif place.stage is Stage.STARTING:
            yield from self._on_start_error(place, error)

    def _on_start_error(self, place: Place, error: BaseException) -> Iterator[Event]:
        """A process that did not come up fails the next trial that is started; but its node's end is nobody's fault."""
        queued = self._take_queued(place.share)
        if queued is not None:
            yield Failed(queued[0].trial, error)
        elif kind_of(error) is not Kind.NODE:
            self._start_error = error

    def _take_queued(self, share: Share) -> tuple[Run, Share] | None:
        """The trial that has waited longest for a place with this share."""
        queued = next((each for each in self._queued if each[1] == share), None)
        if queued is not None:
            self._queued.remove(queued)
        return queued

    def _free(self, place: Place, clean: bool) -> None:
        """A place's process has nothing to do any more; `clean` if it can run another trial."""
        started = place.stage is Stage.STARTING
        if not clean:
            self._close(place)
            return
        place.enter(Stage.IDLE)
        queued = self._take_queued(place.share)
        if queued is not None:
            self.start(*queued)
        elif self._queued or place.share != self._share:
            self._close(place)
        elif not started and self._neighbours.wait_for_some(self._held()):
            self._close(place)
            self._yields_until = time.monotonic() + YIELD_S

    def _held(self) -> int:
        return sum(place.stage is not Stage.STARTING for place in self._places)

    def waiting_for(self) -> str:
        """Who keeps the places that this sweep wants."""
        return self._neighbours.describe() or "the cluster has no room yet"

    def clock(self) -> float:
        """Seconds of the machine."""
        return time.monotonic()

    def close(self) -> None:
        """Ends all trials: those whose functions clean up already may come to their end."""
        until = time.monotonic() + self._cleanup
        while any(p.stage is Stage.ENDING for p in self._places) and (left := until - time.monotonic()) > 0:
            self.wait(min(left, 1.0))
        for place in list(self._places):
            self._close(place)
