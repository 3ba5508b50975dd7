"""Progress of a sweep: one line for each result, failure and long wait, with an estimate of the remaining time."""

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
FIRST_WAIT_S, NEXT_WAIT_S = 10.0, 60.0  # of a wait, before its first line and between its lines
ENOUGH = 3  # results for a first estimate


class Progress(Observer):
    """Prints a line for each result, failure and long wait.

    The best value is that of the whole sweep, earlier runs included; the estimate is based on this run alone. The cost
    of a line does not depend on the number of trials.

    Args:
        state: the sweep's state, which the recorder keeps up to date.
        metric: the metric that is shown.
        mode: "max" or "min".
        total: trials of the whole sweep.
        max_iterations: iterations of a complete trial.
        name: of the sweep.
    """

    def __init__(
        self, state: SweepState, metric: str, mode: str, total: int, max_iterations: int, name: str = "NAME"
    ) -> None:
        self._state, self._metric, self._mode, self._name = state, metric, mode, name
        self.total, self._max_iterations = total, max_iterations
        self._results, self._ended_before = 0, state.count(*ENDED)
        lengths = [len(trial.results) for trial in state.trials.values() if trial.ended]
        self._ended, self._ended_results = len(lengths), sum(lengths)
        best = best_trial(state, Objective((metric,), (mode,)))
        self._best: float | None = best[1].metrics[metric] if best else None
        self._began, self._wait = time.monotonic(), _Wait()

    def begin(self) -> None:
        """The clock of the estimate starts."""
        self._began, self._wait = time.monotonic(), _Wait()

    def reported(self, trial: TrialRecord, result: Result) -> None:
        """Prints the result's line."""
        self._results += 1
        value = result.metrics.get(self._metric)
        self._keep_best(value)
        step = f"{result.iteration:>{len(str(self._max_iterations))}}/{self._max_iterations}"
        best = f"best {_format(self._best)}" if self._best is not None else "best -"
        line = f"{self._head()} trial {trial.id} {step} {_format(self._metric)} {_format(value)} ({best})"
        click.echo(f"{line} {configuration_text(result.config)}".rstrip())

    def _keep_best(self, value: Any) -> None:
        with contextlib.suppress(OverflowError):  # an integer that no float can hold
            if is_number(value):
                choose = max if self._mode == "max" else min
                self._best = value if self._best is None else choose(self._best, value)

    def failed(self, trial: TrialRecord, again: bool) -> None:
        """Prints that the trial starts again; its end has a line of its own."""
        if again:
            click.echo(f"{self._head()} trial {trial.id} starts again after {_failure(trial)}{self._printed(trial)}")

    def ended(self, trial: TrialRecord) -> None:
        """Prints why the trial failed, if it did."""
        self._ended += 1
        self._ended_results += len(trial.results)
        if trial.status in ("failed", "infeasible"):
            ended = "is infeasible" if trial.status == "infeasible" else "failed"
            click.echo(f"{self._head()} trial {trial.id} {ended}: {_failure(trial)}{self._printed(trial)}")

    def _printed(self, trial: TrialRecord) -> str:
        return printed(trial, len(trial.failures) - 1, self._name)

    def waited(self, seconds: float, why: str) -> None:
        """Prints a line now and then, with the reason of the wait."""
        if self._wait.update(seconds):
            click.echo(f"waiting for a place for {seconds:.0f} s: {shorten(why, WIDTH, placeholder=' …')}")

    def _head(self) -> str:
        ended = self._state.count(*ENDED)
        return f"[{ended:>{len(str(self.total))}}/{self.total} ETA {eta_text(self.seconds_left)}]"

    @property
    def seconds_left(self) -> float | None:
        """The time for the results still expected, at the rate so far; a new trial has as many as the ended ones.

        None if there are too few for an estimate.
        """
        if not self._results or (self._results < ENOUGH and self._state.count(*ENDED) <= self._ended_before):
            return None
        length = self._ended_results / self._ended if self._ended_results else self._max_iterations
        expected = max(self.total - self._ended_before, 1) * length
        elapsed = time.monotonic() - self._began - self._wait.total
        return max(elapsed, 0.0) * max(expected - self._results, 0) / self._results


class _Wait:
    """Adds up the waits in which no trial ran; each is reported repeatedly, with its length so far."""

    def __init__(self) -> None:
        self._earlier = self._seconds = 0.0  # the earlier waits, and the current one
        self._updated, self._next_line = -math.inf, FIRST_WAIT_S

    @property
    def total(self) -> float:
        """Seconds of all waits."""
        return self._earlier + self._seconds

    def update(self, seconds: float) -> bool:
        """Sets the length of the current wait; returns whether a line is due."""
        now = time.monotonic()
        if seconds < self._seconds or now - seconds > self._updated:  # a new wait, begun after the last update
            self._earlier, self._next_line = self.total, FIRST_WAIT_S
        self._seconds, self._updated = seconds, now
        due = seconds >= self._next_line
        if due:
            self._next_line = seconds + NEXT_WAIT_S
        return due


def eta_text(seconds: float | None) -> str:
    """An estimate as minutes and seconds."""
    return "--:--" if seconds is None else f"{int(seconds // 60):02d}:{int(seconds % 60):02d}"


def _failure(trial: TrialRecord) -> str:
    """Why a trial failed: the kind, and the last line of the error, since Ray's errors are long."""
    kind = f"{trial.kinds[-1].replace('_', ' ')}: " if trial.kinds else ""
    last = trial.failures[-1].splitlines()[-1:] if trial.failures else []
    return f"{kind}{shorten(' '.join(last), WIDTH, placeholder=' …') or 'no error was recorded'}"


def printed(trial: TrialRecord, failure: int, name: str) -> str:
    """The last lines that a trial printed before one of its failures, and the command that prints all of them.

    Args:
        trial: the trial.
        failure: the number of the failure, from 0.
        name: of the sweep.
    """
    lines = trial.printed[failure] if failure >= 0 else []
    if not lines:
        return ""
    shown = "".join(f"\n  | {line}" for line in lines)
    return f"\n  the last it printed (all: raysweep logs {name} --trial {int(trial.id)}):{shown}"


def configuration_text(config: dict[str, Any]) -> str:
    """A configuration in one line, long values shortened."""
    shown = " ".join(f"{key}={_format(value)}" for key, value in flat(config).items())
    return shown if len(shown) <= CONFIG_WIDTH else f"{shown[:CONFIG_WIDTH]} …"


def _format(value: Any) -> str:
    """A value in one line, shortened if it is long."""
    if isinstance(value, float):
        return f"{value:.4g}"
    try:
        # Only the visible part of a long list is converted to text.
        text = str(value[:VALUE_WIDTH] if isinstance(value, list | tuple) else value)
    except Exception:  # a class of the user's own may raise anything
        text = f"<{type(value).__name__}>"
    text = " ".join(text[: 10 * VALUE_WIDTH].split())
    return text if len(text) <= VALUE_WIDTH else f"{text[: VALUE_WIDTH - 1]}…"
