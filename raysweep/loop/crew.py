"""The processes of a place, which run a trial together: one call goes to all of them, and there is one answer.

They meet in each report, and the trial goes on when all have come. Usually a trial has one process, and waits for none.
"""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from raysweep.trial.actor import Over, Prepared
from raysweep.trial.last_words import Traces
from raysweep.trial.run import Run, Seat, TrialSpec
from raysweep.trial.session import Report
from raysweep.trial.usage import Usage

CAUSE_S = 5.0  # Ray notices within this time that a process is gone, whose loss another one has met as an error
# What a worker meets, in torch's words, when another one is gone.
_OF_ANOTHER = re.compile(r"torch/distributed/|/gloo/|gloo/transport|NCCL")


class OutOfStep(RuntimeError):
    """The workers of a trial do not report equally often."""


@dataclass(frozen=True)
class Answered:
    """What all workers have answered to a call, as one."""

    value: Any


@dataclass(frozen=True)
class Broken:
    """An error has ended a call: that of a worker, of several the likeliest cause of the others, or of all together."""

    worker: int | None
    error: BaseException


Outcome = Answered | Broken


class Crew:
    """The workers of a place.

    Args:
        actors: handles of their `TrialActor`s.
    """

    def __init__(self, actors: Sequence[Any]) -> None:
        self._actors = list(actors)
        self._seats: list[Seat | None] = [None]
        self._traces: list[Traces | None] = [None] * len(self._actors)
        self._called: _Meeting | None = None
        self._over: dict[int, Over] = {}  # workers whose function has returned, while others have still to report

    def __len__(self) -> int:
        return len(self._actors)

    def traces(self, worker: int) -> Traces | None:
        """Where to look for what became of a worker's process; None before it has started."""
        return self._traces[worker]

    @property
    def nodes(self) -> set[str]:
        """Ray's ids of the nodes of those that have started."""
        return {traces.node for traces in self._traces if traces is not None}

    def prepare(self, spec: TrialSpec, then: Callable[[Outcome], None]) -> None:
        """Has all processes take what the trials share; `then` is called when they have, in any thread."""
        self._call([each.prepare.remote(spec) for each in self._actors], self._settle, then)

    def start(self, run: Run, data: list[ray.ObjectRef], then: Callable[[Outcome], None]) -> None:
        """Begins a run, up to its first report or its end."""
        self._over = {}
        alone = len(self._actors) == 1
        meets_at = None if alone else self._actors[0].meeting_point.remote()
        pairs = zip(self._actors, self._seats, strict=True)
        self._call([actor.start.remote(run, data, seat, meets_at) for actor, seat in pairs], self._meet, then)

    def step(self, then: Callable[[Outcome], None]) -> None:
        """Lets a run go on that has reported, up to its next report or its end."""
        left = {worker: each for worker, each in enumerate(self._actors) if worker not in self._over}
        self._call({worker: each.step.remote() for worker, each in left.items()}, self._meet, then)

    def end(self, seconds: float, then: Callable[[Outcome], None]) -> None:
        """Ends a run that has reported; its functions may clean up for so many seconds."""
        ends = [each.end.remote(seconds) for each in self._actors]
        self._call(ends, lambda overs: Over(all(over.clean for over in overs.values())), then)

    def finish(self, seconds: float, then: Callable[[Outcome], None], worker: int | None = None) -> None:
        """Has stored what the processes, or only that of one worker, have printed; waits so many seconds for a storage
        that is away.
        """
        workers = range(len(self._actors)) if worker is None else [worker]
        calls = {each: self._actors[each].finish.remote(seconds) for each in workers}
        self._call(calls, lambda printed: printed[min(printed)], then)

    def usage(self, seconds: float) -> list[Usage]:
        """What the processes have needed so far; waits so many seconds for their answers.

        Raises:
            RayError: one of them is gone, or does not answer.
        """
        found: list[Usage] = ray.get([each.usage.remote() for each in self._actors], timeout=seconds)
        return found

    def ask(self, worker: int, answer: ray.ObjectRef, then: Callable[[Outcome], None]) -> None:
        """Waits for what is found out about a worker whose process is gone."""
        _Meeting({worker: answer}, lambda found: found[worker], then)

    def rank(self, broken: Broken) -> int | None:
        """The rank of the worker that has broken a call; None if there is one worker only, or none of them did."""
        return broken.worker if len(self._actors) > 1 else None

    def host(self, broken: Broken) -> str:
        """The address of the node on which a call was broken; empty if that is not known."""
        traces = self._traces[broken.worker or 0]
        return traces.host if traces else getattr(broken.error, "ip", "")

    def kill_late(self) -> None:
        """Kills the workers for which the others wait; all of them, if the answer is on its way already."""
        missing = list(self._called.missing) if self._called else []
        for worker in missing or range(len(self._actors)):
            ray.kill(self._actors[worker])

    def close(self) -> None:
        """Kills all processes, and expects no answer."""
        if self._called:
            self._called.close()
        for each in self._actors:
            with contextlib.suppress(Exception):  # if the cluster is gone, so are they
                ray.kill(each)

    def _call(
        self,
        calls: Sequence[ray.ObjectRef] | Mapping[int, ray.ObjectRef],
        merge: Callable[[dict[int, Any]], Any],
        then: Callable[[Outcome], None],
    ) -> None:
        by_worker = dict(calls) if isinstance(calls, Mapping) else dict(enumerate(calls))
        self._called = _Meeting(by_worker, merge, then)

    def _settle(self, prepared: dict[int, Prepared]) -> None:
        """Gives the workers their ranks: those of a node one after the other, as torchrun has it."""
        nodes = [each.traces.node if each.traces else "" for _, each in sorted(prepared.items())]
        firsts = list(dict.fromkeys(nodes))
        order = sorted(range(len(nodes)), key=lambda worker: firsts.index(nodes[worker]))
        self._actors = [self._actors[worker] for worker in order]
        self._traces = [prepared[worker].traces for worker in order]
        if len(order) > 1:
            self._seats = list(_seats([firsts.index(nodes[w]) for w in order], [prepared[w].gpus for w in order]))

    def _meet(self, answers: dict[int, Report | Over]) -> Report | Over:
        """What the trial has done, if all workers have reported the same iteration, or have returned."""
        iterations = {worker: _iteration(answer) for worker, answer in answers.items()}
        if len(set(iterations.values())) > 1:
            told = "; ".join(f"worker {w} {_deed(i)}" for w, i in sorted(iterations.items()))
            raise OutOfStep(f"{told}: each worker has to call raysweep.report equally often")
        self._over |= {worker: answer for worker, answer in answers.items() if isinstance(answer, Over)}
        first = answers.get(0)
        if len(self._over) == len(self._actors):
            report = first.report if isinstance(first, Over) else None
            return Over(all(over.clean for over in self._over.values()), report)
        if isinstance(first, Report):
            return first
        assert first is not None
        assert first.report is not None
        return first.report


class _Meeting:
    """Waits for the answers of several workers to one call.

    A worker that is gone breaks the work of the others. Their errors come first, and say little: so an error that looks
    like one of these waits a moment for its cause.
    """

    def __init__(
        self,
        calls: Mapping[int, ray.ObjectRef],
        merge: Callable[[dict[int, Any]], Any],
        then: Callable[[Outcome], None],
    ) -> None:
        self._merge, self._then = merge, then
        self.missing = set(calls)
        self._values: dict[int, Any] = {}
        self._errors: list[Broken] = []
        self._over, self._lock = False, threading.Lock()
        for worker, call in calls.items():
            call.future().add_done_callback(functools.partial(self._answered, worker))

    def _answered(self, worker: int, future: Future[Any]) -> None:
        with self._lock:
            self.missing.discard(worker)
            if (error := future.exception()) is None:
                self._values[worker] = future.result()
            else:
                self._errors.append(Broken(worker, error))
            if not self.missing or (error is not None and not _may_be_of_another(error)):
                self._finish()
            elif error is not None and len(self._errors) == 1:
                waits = threading.Timer(CAUSE_S, self._wait_no_longer)
                waits.daemon = True
                waits.start()

    def _wait_no_longer(self) -> None:
        with self._lock:
            self._finish()

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._then(self._outcome())

    def _outcome(self) -> Outcome:
        if self._errors:
            return min(self._errors, key=lambda broken: _may_be_of_another(broken.error))
        try:
            return Answered(self._merge(self._values))
        except Exception as error:
            return Broken(None, error)

    def close(self) -> None:
        """Answers that are still to come are not waited for."""
        with self._lock:
            self._over = True


def _may_be_of_another(error: BaseException) -> bool:
    """Whether a worker may have met this since another one is gone: it is no loss of its own, and torch's words."""
    return isinstance(error, RayTaskError) and (
        isinstance(error.cause, RayError) or _OF_ANOTHER.search(str(error)) is not None
    )


def _iteration(answer: Report | Over) -> int | None:
    """What a worker has reported; None if it has returned."""
    report = answer.report if isinstance(answer, Over) else answer
    return report.iteration if report else None


def _deed(iteration: int | None) -> str:
    return "has returned" if iteration is None else f"reports iteration {iteration}"


def _seats(nodes: Sequence[int], gpus: Sequence[tuple[str, ...]]) -> Iterator[Seat]:
    """The seats of workers, in the order of their ranks.

    Args:
        nodes: the number of each one's node.
        gpus: ids of each one's GPUs.
    """
    for rank, node in enumerate(nodes):
        local = [other for other, each in enumerate(nodes) if each == node]
        visible = tuple(gpu for other in local for gpu in gpus[other])
        yield Seat(rank, len(nodes), local.index(rank), len(local), node, visible)
