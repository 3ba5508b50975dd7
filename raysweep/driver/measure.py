"""Times the first iterations of a few configurations, in real processes of trials, by the executor of sweeps."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from raysweep.errors import SweepFailed
from raysweep.loop.executor import Event, Failed, Reported
from raysweep.loop.failures import kind_of, text_of
from raysweep.loop.ray_executor import RayExecutor
from raysweep.spec.configuration import Codec
from raysweep.trial.run import Run
from raysweep.trial.usage import Usage
from raysweep.values import to_json

TURN_S = 1.0
LONG_WAIT_S = 10.0  # for a place, after which the user is told what is waited for


@dataclass
class Timed:
    """What was measured of one configuration.

    Attributes:
        config: as the journal would have it.
        seconds: of each iteration, from the driver's call to the report's arrival: what is saved is in it.
        usages: of the processes of its trial, after the last of them.
        fresh: whether no other trial had run in its process before, so that the first iteration has the imports.
        checkpoint: bytes of the newest one; 0 if none was saved.
    """

    config: dict[str, Any]
    seconds: list[float] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)
    fresh: bool = False
    checkpoint: int = 0


class Measurement:
    """Runs trials, some at a time, for so many iterations each.

    Args:
        executor: of a sweep, whose trials may do more iterations than are measured.
        space: of Ray's domains.
        width: trials at the same time.
        iterations: of each trial.
    """

    def __init__(self, executor: RayExecutor, space: dict[str, Any], width: int, iterations: int) -> None:
        self._executor, self._codec = executor, Codec(space)
        self._width, self._iterations = width, iterations
        self._count, self._seen = 0, set[tuple[str, int]]()
        self._running: dict[str, Timed] = {}
        self._called: dict[str, float] = {}  # when a trial was last let go on
        self._freed = deque[float]()  # when trials have ended, whose place no other one has got yet
        self.first_place: float | None = None  # when the first process was ready, by time.monotonic
        self.gaps: list[float] = []  # seconds from the end of a trial to the start of the next one in its place

    def run(self, configs: Sequence[dict[str, Any]]) -> list[Timed]:
        """Measures these configurations, which have the objects of the space; in their order.

        Raises:
            SweepFailed: a trial failed.
        """
        found = [Timed(self._codec.write(config)) for config in configs]
        waiting, since, told = deque(zip(configs, found, strict=True)), time.monotonic(), False
        self._freed.clear()
        while waiting or self._running:
            self._executor.request_places(self._width)
            while waiting and len(self._running) < self._width and self._executor.has_place:
                self.first_place = self.first_place or time.monotonic()
                self._start(*waiting.popleft())
            for event in self._executor.wait(TURN_S):
                self._handle(event)
            if not told and not self._running and waiting and time.monotonic() - since > LONG_WAIT_S:
                click.echo(f"waiting for a place: {self._executor.waiting_for()}")
                told = True
        return found

    def _start(self, config: dict[str, Any], timed: Timed) -> None:
        trial = f"{self._count:05d}"
        self._count += 1
        if self._freed:
            self.gaps.append(time.monotonic() - self._freed.popleft())
        self._running[trial], self._called[trial] = timed, time.monotonic()
        self._executor.start(Run(trial, config, timed.config, first=True))

    def _handle(self, event: Event) -> None:
        timed = self._running.get(event.trial)
        if timed is None:
            return  # it was stopped after its last iteration
        if isinstance(event, Failed):
            raise SweepFailed(_failure(event, timed.config))
        if isinstance(event, Reported):
            timed.seconds.append(time.monotonic() - self._called[event.trial])
            timed.checkpoint = event.report.checkpoint.size if event.report.checkpoint else timed.checkpoint
            timed.usages = self._executor.usage(event.trial) or timed.usages
            if len(timed.seconds) < self._iterations:
                self._called[event.trial] = time.monotonic()
                self._executor.step(event.trial)
                return
            self._executor.stop(event.trial)
        del self._running[event.trial]
        self._freed.append(time.monotonic())
        processes = {(usage.host, usage.pid) for usage in timed.usages}
        timed.fresh = not processes <= self._seen
        self._seen |= processes


def _failure(event: Failed, config: dict[str, Any]) -> str:
    kind = kind_of(event.error)
    told = text_of(event.error, kind, event.end, event.log, event.worker)
    printed = "".join(f"\n  {line}" for line in event.printed)
    return f"a timed trial failed ({kind}) with {to_json(config)}:\n{told}{printed}"
