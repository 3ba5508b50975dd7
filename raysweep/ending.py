"""What ends a trial or a whole sweep before its time, and lets go of neither without what they have done."""

from __future__ import annotations

import math
import signal
import time
from types import FrameType
from typing import Any, Self

import click
import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.result import TIME_TOTAL_S, TRAINING_ITERATION

from raysweep.failure import OUT_OF_MEMORY, RecoveringTrial
from raysweep.record import NotSaved, error_of
from raysweep.state import finite

SAME_FAILURES = 3  # trials that fail the same way, and none that reported: the rest would fail so, too
FIRST_S = 60.0  # of a sweep, in which that is looked for
GRACE_S = 30.0  # in which running trials may still report when a sweep is asked to end
AGAIN_S = 1.0  # after which a second SIGINT is another Ctrl-C, not the same one on another way
SILENCE_S = 900.0  # longer than a store's outage is sat out, in which trials are silent
SILENT_ITERATIONS = 20  # of the slowest iteration so far


class Stop(NotSaved, tune.Stopper, tune.Callback):
    """Ends trials that are complete, have used up their time or diverged; and a sweep whose end has come.

    Args:
        max_iterations: of a complete trial.
        metrics: which must stay finite numbers; a trial where one does not is stopped. None are looked at if empty.
        timeout: seconds that a trial may run.
        budget: seconds that the sweep may run.
        total: trials of the sweep.
    """

    def __init__(
        self,
        max_iterations: int,
        metrics: tuple[str, ...] = (),
        timeout: float | None = None,
        budget: float | None = None,
        total: int = 0,
    ) -> None:
        self._max_iterations, self._metrics, self._timeout = max_iterations, metrics, timeout or math.inf
        self._began = time.monotonic()
        self._budget, self._total = budget or math.inf, total
        self._reported = False
        self._failed: list[str] = []
        self.refused: str | None = None
        self.out_of_time = False  # the sweep has ended since its own time was used up

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Asked by Tune, and by a replay, with each result."""
        diverged = not all(finite(result[name]) for name in self._metrics if name in result)
        complete = result[TRAINING_ITERATION] >= self._max_iterations
        return diverged or complete or bool(result[TIME_TOTAL_S] >= self._timeout)

    def stop_all(self) -> bool:
        """Asked by Tune in each step."""
        self.out_of_time = self.out_of_time or time.monotonic() - self._began >= self._budget
        return self.out_of_time or self.refused is not None or self.hopeless

    @property
    def hopeless(self) -> bool:
        """Whether the first trials all failed the same way, and soon."""
        enough = min(SAME_FAILURES, self._total or SAME_FAILURES)
        return not self._reported and len(self._failed) >= enough and len(set(self._failed)) == 1

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: Any, **_: Any) -> None:
        """Called by Tune with each result."""
        self._reported = True

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: RecoveringTrial, **_: Any) -> None:
        """Called by Tune when a failed trial will start again; the next time with more of what it ran out of."""
        self.refused = self.refused or trial.refused
        if trial.kind in OUT_OF_MEMORY:
            trial.grow(trial.kind)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: RecoveringTrial, **_: Any) -> None:
        """Called by Tune when a trial failed for good."""
        if time.monotonic() - self._began < FIRST_S:
            last = error_of(trial).splitlines()[-1:]
            self._failed.append(f"{trial.kind} {' '.join(last)}")


class Interruption(NotSaved, tune.Callback):
    """SIGINT and SIGTERM, which Ctrl-C and `ray job stop` send, end a sweep, but let running trials report first.

    What they report is a checkpoint: a sweep that is asked to end loses no iteration that is done within GRACE_S. A
    second SIGTERM, such as a supervisor passes on, changes nothing; a second Ctrl-C ends the sweep at once.
    """

    def __enter__(self) -> Self:
        self._tunes: Any = None  # its handler of SIGINT, which ends a sweep as it has to be ended
        self._asked = math.inf
        self._awaited: set[str] | None = None
        self._before = signal.getsignal(signal.SIGINT)
        self._sigterm = signal.signal(signal.SIGTERM, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._sigterm)
        signal.signal(signal.SIGINT, self._before)

    def on_step_begin(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Called by Tune, which has installed its handler before the first step."""
        if self._tunes is None:
            self._tunes = signal.signal(signal.SIGINT, self._on_signal)
        if self._asked == math.inf:
            return
        if self._awaited is None:
            self._awaited = {trial.trial_id for trial in trials if trial.status == Trial.RUNNING}
        if not self._awaited or time.monotonic() >= self._asked + GRACE_S:
            self._end()

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: Any, **_: Any) -> None:
        """Called by Tune with each result."""
        self._heard(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called by Tune when a trial failed for good."""
        self._heard(trial)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called by Tune when a failed trial will start again."""
        self._heard(trial)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called by Tune when a trial ended."""
        self._heard(trial)

    def _heard(self, trial: Trial) -> None:
        if self._awaited is not None:
            self._awaited.discard(trial.trial_id)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._tunes is None:
            raise KeyboardInterrupt
        if self._asked == math.inf:
            click.echo("the sweep is asked to end: running trials may finish their iteration first")
            self._asked = now
        elif number == signal.SIGINT and now - self._asked > AGAIN_S:
            self._end()

    def _end(self) -> None:
        tunes, self._tunes = self._tunes, signal.SIG_IGN
        if callable(tunes):
            tunes(signal.SIGINT, None)


class Reaper(NotSaved, tune.Callback):
    """Ends the process of a trial that has been silent for too long; it starts again from its last checkpoint.

    Args:
        limit: seconds without a report; if not given, SILENT_ITERATIONS of the slowest iteration, and SILENCE_S at
            least.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit, self._slowest, self._looked = limit, 0.0, 0.0
        self._heard: dict[str, float] = {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called by Tune when a trial begins, or goes on."""
        self._heard[trial.trial_id] = time.monotonic()

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: Any, **_: Any) -> None:
        """Called by Tune with each result."""
        now = time.monotonic()
        self._slowest = max(self._slowest, now - self._heard.get(trial.trial_id, now))
        self._heard[trial.trial_id] = now

    def on_step_begin(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Called by Tune some hundred times a second."""
        now = time.monotonic()
        if now - self._looked < 1:
            return
        self._looked = now
        limit = self._limit or max(SILENCE_S, SILENT_ITERATIONS * self._slowest)
        for trial in trials:
            silence = now - self._heard.get(trial.trial_id, now)
            if trial.status == Trial.RUNNING and silence >= limit and not trial.silent:
                self._end(trial, silence)

    def _end(self, trial: RecoveringTrial, silence: float) -> None:
        actor = trial.temporary_state.ray_actor
        if actor is not None:
            click.echo(f"trial {trial.trial_id} has been silent for {silence:.0f} s: its process is ended")
            trial.silent = True
            ray.kill(actor)
