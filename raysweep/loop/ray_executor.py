"""Runs trials on a Ray cluster: plain actors, in places of their own, which run one trial after the other."""

from __future__ import annotations

import contextlib
import math
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysweep.loop.crew import Answered, Broken, Outcome
from raysweep.loop.executor import Event, Failed, Reported, Returned, Share
from raysweep.loop.failures import Kind, is_alive, kind_of
from raysweep.loop.places import YIELD_S, FullNodes, Neighbours, Occupancy, Place, Stage, nodes_at, reserve
from raysweep.loop.show_output import ShowOutput
from raysweep.storage import Storage
from raysweep.trial import last_words, spool
from raysweep.trial.actor import Over, Printed, TrialActor
from raysweep.trial.last_words import Traces
from raysweep.trial.run import Run, TrialSpec
from raysweep.trial.session import Report
from raysweep.trial.usage import Usage

QUICK_END_S = 1.0  # if a function takes longer to clean up, another place is requested for the next trial
ANSWER_S = 5.0  # for a process to answer, after the time for its clean-up
STORE_S = 5.0  # for what was printed to be stored, if the storage is away


@dataclass(frozen=True)
class Answer:
    """The outcome of a call to a place's processes, and the trial of the call.

    If the trial failed in an earlier call, `failed` is what ended that. The outcome is then the last lines that the
    process printed or, if it was lost, the end that it noted and those lines.
    """

    place: Place
    trial: str | None
    outcome: Outcome
    failed: Broken | None = None


class RayExecutor:
    """Runs trials on the connected cluster.

    Args:
        spec: what all trials have in common.
        name: of the sweep; other users of the cluster see it.
        share: the resources of a trial.
        log_name: prefix of the trials' output in the logs.
        reuse: whether the next trial may run in the process of the last one.
        cleanup: seconds in which a stopped function may clean up.
        show: shows what the trials print.
    """

    def __init__(
        self,
        spec: TrialSpec,
        name: str,
        share: Share,
        log_name: str = "trial",
        reuse: bool = True,
        cleanup: float = 60.0,
        show: ShowOutput | None = None,
    ) -> None:
        self._name, self._share, self._reuse, self._cleanup = name, share, reuse, cleanup
        self._actor = ray.remote(type(log_name, (TrialActor,), {}))
        self._read = ray.remote(num_cpus=0, max_retries=0)(_last_of)
        self._rescue = ray.remote(num_cpus=0, max_retries=0)(_rescue)
        self._rescues: list[ray.ObjectRef] = []
        self._storage, self._show = spec.storage, show
        self._spec = ray.put(replace(spec, show=show.queue if show else None))
        self._data: list[ray.ObjectRef] = []
        self._neighbours, self._full = Neighbours(name), FullNodes()
        self._places: list[Place] = []
        self._place_of: dict[str, Place] = {}
        self._queued: deque[tuple[Run, Share]] = deque()  # trials that need another share than most
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._failed: deque[Failed] = deque()
        self._start_error: BaseException | None = None  # of a process that failed to start
        self._yields_until = 0.0

    def set_data(self, data: ray.ObjectRef | None) -> None:
        """Sets the task's data, which are loaded while the first places start."""
        self._data = [] if data is None else [data]

    # Places.

    def request_places(self, count: int) -> None:
        """Requests missing places, and releases surplus ones."""
        self._close_late()
        usable = [place for place in self._places if self._is_usable(place)]
        for _ in range(count - len(usable)):
            if self._queued or self._is_yielding():
                break
            self._reserve(self._share)
        spare = [place for place in usable if place.stage is Stage.STARTING]
        spare += [place for place in usable if place.stage is Stage.IDLE]
        for place in spare[: max(len(usable) - count, 0)]:
            self._leave(place)

    def _is_yielding(self) -> bool:
        """Whether a released place is still left to the sweep that it was released for."""
        return time.monotonic() < self._yields_until and self._neighbours.should_yield(self._held() + 1)

    def _is_usable(self, place: Place) -> bool:
        late = place.stage is Stage.ENDING and time.monotonic() - place.since > QUICK_END_S
        return place.share == self._share and not late and place.stage is not Stage.LEAVING

    def _close_late(self) -> None:
        for place in list(self._places):
            most = {Stage.ENDING: self._cleanup, Stage.LEAVING: 2 * STORE_S}.get(place.stage, math.inf)
            if time.monotonic() - place.since > most + ANSWER_S:
                self._close(place)
                self._save_output(place)

    def _reserve(self, share: Share) -> Place:
        avoid = self._full.avoided(share)
        place = reserve(self._name, share, lambda **options: self._actor.options(**options).remote(), avoid)
        self._places.append(place)
        place.crew.prepare(self._spec, self._answer_of(place))
        return place

    def _close(self, place: Place) -> None:
        self._places.remove(place)
        place.close()

    def _leave(self, place: Place, trial: str | None = None, failed: Broken | None = None) -> None:
        """Closes a place as soon as what its processes printed is stored: of all, or of the one that has failed, since
        the others may hang without it.
        """
        if place.stage is Stage.STARTING:
            self._close(place)
            return
        place.enter(Stage.LEAVING, trial)
        place.crew.finish(STORE_S, self._answer_of(place, trial, failed), failed.worker if failed else None)

    def _answer_of(
        self, place: Place, trial: str | None = None, failed: Broken | None = None
    ) -> Callable[[Outcome], None]:
        """Puts what comes of a call among the answers."""
        return lambda outcome: self._answers.put(Answer(place, trial, outcome, failed))

    @property
    def stages(self) -> Counter[Stage]:
        """How many places there are, by their stage."""
        return Counter(place.stage for place in self._places)

    @property
    def has_place(self) -> bool:
        """Whether a process is idle; also after one failed to start, since the next trial then fails at once."""
        return not self._queued and (self._start_error is not None or self._idle(self._share) is not None)

    def _idle(self, share: Share) -> Place | None:
        return next((place for place in self._places if place.stage is Stage.IDLE and place.share == share), None)

    def _avoid_if_full(self, place: Place, broken: Broken) -> bool:
        """If an error says that its node has no space left, nothing new is run there; returns whether that is so."""
        if kind_of(broken.error) is not Kind.FULL:
            return False
        traces = place.crew.traces(broken.worker or 0)
        nodes = [traces.node] if traces else nodes_at(place.crew.host(broken))
        self._full.add(nodes)
        for other in list(self._places):
            if other.stage is Stage.IDLE and self._is_on_full(other):
                self._leave(other)
        return not self._full.avoided(place.share).isdisjoint(nodes)

    def _is_on_full(self, place: Place) -> bool:
        return not self._full.avoided(place.share).isdisjoint(place.crew.nodes)

    def _reserve_again(self, share: Share) -> None:
        """Requests another place for a trial that waits for one with this share, if there is such a trial."""
        if any(each == share for _, each in self._queued):
            self._reserve(share)

    # Trials.

    def start(self, run: Run, share: Share | None = None) -> None:
        """Runs a trial in an idle place; one that needs another share gets a new place."""
        share = share or self._share
        if self._start_error is not None:
            self._failed.append(Failed(run.trial, self._start_error))
            self._start_error = None
            return
        place = self._idle(share)
        if place is None:
            self._queued.append((run, share))
            self._reserve(share)
            self._release_idle()
            return
        place.enter(Stage.BUSY, run.trial)
        self._place_of[run.trial] = place
        place.crew.start(run, self._data, self._answer_of(place, run.trial))

    def _release_idle(self) -> None:
        """Releases idle places, since a trial that needs a larger place may be waiting for their resources."""
        for place in list(self._places):
            if place.stage is Stage.IDLE:
                self._leave(place)

    def usage(self, trial: str) -> list[Usage]:
        """What the processes of a trial that has reported have needed so far: nothing, if they are gone."""
        place = self._place_of.get(trial)
        with contextlib.suppress(RayError):
            return place.crew.usage(ANSWER_S) if place else []
        return []

    def step(self, trial: str) -> None:
        """Lets a trial that has reported continue."""
        if trial in self._place_of:  # it may have returned right after its last report
            place = self._place_of[trial]
            place.crew.step(self._answer_of(place, trial))

    def stop(self, trial: str) -> None:
        """Ends a trial that has reported; its function may clean up."""
        place = self._place_of.pop(trial, None)
        if place is not None:  # otherwise it has returned, or its process is gone
            place.enter(Stage.ENDING, trial)
            place.crew.end(self._cleanup, self._answer_of(place))

    def kill(self, trial: str) -> None:
        """Kills those of a trial's processes that are not waiting for the others."""
        queued = next((each for each in self._queued if each[0].trial == trial), None)
        if queued is not None:
            self._queued.remove(queued)
            self._failed.append(Failed(trial, TimeoutError("no node had room for it")))
        elif trial in self._place_of:
            self._place_of[trial].crew.kill_late()

    # Events.

    def wait(self, seconds: float) -> Sequence[Event]:
        """The next events; empty after this time, or if a place has become free."""
        answers = []
        with contextlib.suppress(queue.Empty):
            answers.append(self._answers.get(timeout=0 if self._failed else seconds))
            while True:
                answers.append(self._answers.get_nowait())
        events = [event for answer in answers for event in self._events_of(answer)]
        failed, self._failed = list(self._failed), deque()
        return [*events, *failed]

    def _events_of(self, answer: Answer) -> Iterator[Event]:
        place, trial, outcome = answer.place, answer.trial, answer.outcome
        if trial is not None and answer.failed is not None:
            yield self._failure(place, trial, answer.failed, outcome)
            return
        if place not in self._places or (trial is not None and place.stage is Stage.ENDING):
            return  # the place was released, or the trial was stopped, in the meantime
        if isinstance(outcome, Broken):
            yield from self._on_error(place, trial, outcome)
            return
        value = outcome.value
        if isinstance(value, Printed):
            self._close(place)
            return
        if trial is not None and isinstance(value, Report):
            yield Reported(trial, value)
            return
        self._free(place, clean=not isinstance(value, Over) or (value.clean and self._reuse))
        if trial is not None:
            self._place_of.pop(trial, None)
            if value.report is not None:
                yield Reported(trial, value.report)
            yield Returned(trial)

    def _on_error(self, place: Place, trial: str | None, broken: Broken) -> Iterator[Event]:
        # The processes may be damaged, for example by a broken GPU context: they are not used again. Those that have
        # lost another one may hang, and none of them is of use without it.
        avoided = self._avoid_if_full(place, broken)
        if trial is None:
            starting = place.stage is Stage.STARTING
            self._close(place)
            if starting and avoided:
                self._reserve_again(place.share)
            elif starting:
                yield from self._on_start_error(place, broken.error)
            return
        self._place_of.pop(trial, None)
        if is_alive(broken.error):
            self._leave(place, trial, broken)
            return
        self._close(place)
        if place.crew.traces(broken.worker or 0) is not None and kind_of(broken.error) is not Kind.NODE:
            self._ask_how_it_ended(place, trial, broken)
        else:
            self._save_output(place)
            yield Failed(trial, broken.error, worker=place.crew.rank(broken), host=place.crew.host(broken))

    def _failure(self, place: Place, trial: str, broken: Broken, outcome: Outcome) -> Failed:
        """The failure of a trial, with the last that is known of it: nothing, if its node or storage is gone, too."""
        last, rank = outcome.value if isinstance(outcome, Answered) else None, place.crew.rank(broken)
        host = place.crew.host(broken)
        if is_alive(broken.error):
            if place in self._places:
                self._close(place)
                self._save_output(place, without=broken.worker)
            return Failed(trial, broken.error, printed=last.last if last else (), worker=rank, host=host)
        traces = place.crew.traces(broken.worker or 0)
        assert traces is not None
        end, printed = last or ("", ())
        return Failed(trial, broken.error, end, f"{traces.log} on node {traces.host}", printed, rank, host)

    def _ask_how_it_ended(self, place: Place, trial: str, broken: Broken) -> None:
        """Has a lost process's last words read on its node. If that is gone, too, Ray answers with an error."""
        worker = broken.worker or 0
        traces = place.crew.traces(worker)
        assert traces is not None
        there = NodeAffinitySchedulingStrategy(traces.node, soft=False)
        words = self._read.options(scheduling_strategy=there).remote(traces)
        place.crew.ask(worker, words, self._answer_of(place, trial, broken))
        self._save_output(place, {worker: words})

    def _save_output(
        self, place: Place, after: Mapping[int, ray.ObjectRef] | None = None, without: int | None = None
    ) -> None:
        """Has stored, on their nodes, what the processes of a closed place had printed, and their files removed: after
        they were read. Only `close` waits for it.

        Args:
            place: the place.
            after: what reads the files of a worker.
            without: a worker that has stored all by itself.
        """
        shown = self._show.queue if self._show else None
        for worker in range(len(place.crew)):
            if (traces := place.crew.traces(worker)) is not None and worker != without:
                there = NodeAffinitySchedulingStrategy(traces.node, soft=False)
                rescue = self._rescue.options(scheduling_strategy=there)
                self._rescues.append(rescue.remote(traces, self._storage, shown, (after or {}).get(worker)))

    def _on_start_error(self, place: Place, error: BaseException) -> Iterator[Event]:
        """If a process failed to start, the next trial that is started fails; but not if its node is gone."""
        queued = self._take_queued(place.share)
        if queued is not None:
            yield Failed(queued[0].trial, error)
        elif kind_of(error) is not Kind.NODE:
            self._start_error = error

    def _take_queued(self, share: Share) -> tuple[Run, Share] | None:
        """Takes the trial that has waited longest for a place with this share from the queue."""
        queued = next((each for each in self._queued if each[1] == share), None)
        if queued is not None:
            self._queued.remove(queued)
        return queued

    def _free(self, place: Place, clean: bool) -> None:
        """A place's process has become idle; `clean` if it can run another trial."""
        started = place.stage is Stage.STARTING
        if self._is_on_full(place):
            self._leave(place)
            if started:
                self._reserve_again(place.share)
            return
        if not clean:
            self._leave(place)
            return
        place.enter(Stage.IDLE)
        queued = self._take_queued(place.share)
        if queued is not None:
            self.start(*queued)
        elif self._queued or place.share != self._share:
            self._leave(place)
        elif not started and self._neighbours.should_yield(self._held()):
            self._leave(place)
            self._yields_until = time.monotonic() + YIELD_S

    @property
    def occupancy(self) -> Occupancy:
        """The use of its places."""
        return Occupancy.of(self._places)

    def _held(self) -> int:
        return sum(place.stage is not Stage.STARTING for place in self._places)

    def waiting_for(self) -> str:
        """Who holds the places that this sweep waits for."""
        return self._neighbours.describe() or "the cluster has no room yet"

    def clock(self) -> float:
        """The machine's monotonic clock."""
        return time.monotonic()

    def close(self) -> None:
        """Ends all trials; functions that are cleaning up already may finish that. What was printed is stored."""
        self._await(Stage.ENDING, self._cleanup)
        for place in list(self._places):
            if place.stage is Stage.IDLE:
                self._leave(place)
        self._await(Stage.LEAVING, 2 * STORE_S)
        for place in list(self._places):
            self._close(place)
            if place.stage is Stage.BUSY:
                self._save_output(place)
        if self._rescues:
            ray.wait(self._rescues, num_returns=len(self._rescues), timeout=2 * STORE_S)
            self._rescues.clear()
        if self._show:
            self._show.close()
            self._show = None

    def _await(self, stage: Stage, seconds: float) -> None:
        until = time.monotonic() + seconds
        while any(place.stage is stage for place in self._places) and (left := until - time.monotonic()) > 0:
            self.wait(min(left, 1.0))


def _last_of(process: Traces) -> tuple[str, tuple[str, ...]]:
    """How a process of this node ended, and the last lines of what it printed."""
    return last_words.read(process.words), spool.last_lines(process.printed, process.runs)


def _rescue(process: Traces, storage: Storage, show: Any, after: Any) -> None:
    spool.rescue(process.printed, process.runs, storage, show)
