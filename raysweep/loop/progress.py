"""Progress of a sweep: one line a result, a failure and a long wait, with an estimate of the time that is left."""

from __future__ import annotations

import contextlib
import math
import time
from textwrap import shorten
from typing import Any

import click

from raysweep.history.results import Objective, best_trial
from raysweep.history.sweep_state import ENDED, Result, SweepState, TrialRecord
from raysweep.loop.observers import Observer
from raysweep.values import flat, is_number

WIDTH = 160  # of an error's last line
VALUE_WIDTH = 40  # of one value: a configuration may hold an array or a whole text
CONFIG_WIDTH = 600  # of all of a configuration
FIRST_WAIT_S, NEXT_WAIT_S = 10.0, 60.0  # of a wait, until it is told and between two lines on it
ENOUGH = 3  # results, for a first estimate


class Progress(Observer):
    """Prints a line for each result, failure and long wait.

    The best is the sweep's, earlier runs included; the estimate goes by this run alone. Each line costs the same,
    however many trials there are.

    Args:
        state: the folded journal, which the recorder keeps current.
        metric: the metric that is shown.
        mode: "max" or "min".
        total: trials of the whole sweep.
        max_iterations: iterations of a complete trial.
    """

    def __init__(self, state: SweepState, metric: str, mode: str, total: int, max_iterations: int) -> None:
        self._state, self._metric, self._mode = state, metric, mode
        self._total, self._max_iterations = total, max_iterations
        self._results, self._ended_before = 0, state.count(*ENDED)
        lengths = [len(trial.results) for trial in state.trials.values() if trial.ended]
        self._ended, self._ended_results = len(lengths), sum(lengths)
        found = best_trial(state, Objective((metric,), (mode,)))
        self._best: float | None = found[1].metrics[metric] if found else None
        self._began, self._wait = time.monotonic(), _Wait()

    def begin(self) -> None:
        """The clock of the estimate starts."""
        self._began, self._wait = time.monotonic(), _Wait()

    def reported(self, trial: TrialRecord, result: Result) -> None:
        """The result's line."""
        self._results += 1
        value = result.metrics.get(self._metric)
        self._keep_best(value)
        step = f"{result.iteration:>{len(str(self._max_iterations))}}/{self._max_iterations}"
        best = f"best {_shown(self._best)}" if self._best is not None else "best -"
        told = f"{self._head()} trial {trial.id} {step} {self._metric} {_shown(value)} ({best})"
        click.echo(f"{told} {_configuration(result.config)}".rstrip())

    def _keep_best(self, value: Any) -> None:
        with contextlib.suppress(OverflowError):  # an integer that no float can hold
            if is_number(value):
                choose = max if self._mode == "max" else min
                self._best = value if self._best is None else choose(self._best, value)

    def failed(self, trial: TrialRecord, again: bool) -> None:
        """That the trial starts again; its end has a line of its own."""
        if again:
            click.echo(f"{self._head()} trial {trial.id} starts again after {_said(trial)}")

    def ended(self, trial: TrialRecord) -> None:
        """Why it failed, if it did."""
        self._ended += 1
        self._ended_results += len(trial.results)
        if trial.status in ("failed", "infeasible"):
            ended = "is infeasible" if trial.status == "infeasible" else "failed"
            click.echo(f"{self._head()} trial {trial.id} {ended}: {_said(trial)}")

    def waited(self, seconds: float, why: str) -> None:
        """A line now and then, which says what is waited for."""
        if self._wait.grown(seconds):
            click.echo(f"waiting for a place for {seconds:.0f} s: {shorten(why, WIDTH, placeholder=' …')}")

    def _head(self) -> str:
        ended = self._state.count(*ENDED)
        return f"[{ended:>{len(str(self._total))}}/{self._total} ETA {self._eta(ended)}]"

    def _eta(self, ended: int) -> str:
        """Results still expected, at the rate so far; a trial to come costs what the ended ones cost."""
        if not self._results or (self._results < ENOUGH and ended <= self._ended_before):
            return "--:--"
        length = self._ended_results / self._ended if self._ended_results else self._max_iterations
        expected = max(self._total - self._ended_before, 1) * length
        elapsed = time.monotonic() - self._began - self._wait.total
        left = max(elapsed, 0.0) * max(expected - self._results, 0) / self._results
        return f"{int(left // 60):02d}:{int(left % 60):02d}"


class _Wait:
    """Adds up the waits in which no trial ran, each of which is told of again and again as it grows."""

    def __init__(self) -> None:
        self._earlier = self._seconds = 0.0  # the waits before, and this one
        self._heard, self._next_line = -math.inf, FIRST_WAIT_S

    @property
    def total(self) -> float:
        """Seconds of all waits."""
        return self._earlier + self._seconds

    def grown(self, seconds: float) -> bool:
        """The wait is so long by now; whether a line is due."""
        now = time.monotonic()
        if seconds < self._seconds or now - seconds > self._heard:  # it began after the last word of the one before
            self._earlier, self._next_line = self.total, FIRST_WAIT_S
        self._seconds, self._heard = seconds, now
        due = seconds >= self._next_line
        if due:
            self._next_line = seconds + NEXT_WAIT_S
        return due


def _said(trial: TrialRecord) -> str:
    """Why a trial failed: its kind, and the last line of the error, of which Ray writes long ones."""
    kind = f"{trial.kinds[-1].replace('_', ' ')}: " if trial.kinds else ""
    last = trial.failures[-1].splitlines()[-1:] if trial.failures else []
    return f"{kind}{shorten(' '.join(last), WIDTH, placeholder=' …') or 'no error was recorded'}"


def _configuration(config: dict[str, Any]) -> str:
    shown = " ".join(f"{key}={_shown(value)}" for key, value in flat(config).items())
    return shown if len(shown) <= CONFIG_WIDTH else f"{shown[:CONFIG_WIDTH]} …"


def _shown(value: Any) -> str:
    """A value in one line, and no more of it than a line holds."""
    if isinstance(value, float):
        return f"{value:.4g}"
    try:
        # Of a long list only what can be seen is made into text at all.
        text = str(value[:VALUE_WIDTH] if isinstance(value, list | tuple) else value)
    except Exception:  # some class of the user's own
        text = f"<{type(value).__name__}>"
    text = " ".join(text[: 10 * VALUE_WIDTH].split())
    return text if len(text) <= VALUE_WIDTH else f"{text[: VALUE_WIDTH - 1]}…"
