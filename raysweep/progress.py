"""Progress of a sweep: one line a result and an estimate of the time that is left, instead of Ray's tables."""

from __future__ import annotations

import time
from textwrap import shorten
from typing import Any

import click
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.result import TRAINING_ITERATION

from raysweep.points import flat
from raysweep.record import NotSaved, error_of
from raysweep.results import Objective, best_trial
from raysweep.state import ENDED, SweepState, is_number

WIDTH = 160  # of an error's last line


class Progress(NotSaved, tune.Callback):
    """Prints a line for each result, failure and end.

    The best is the sweep's, earlier runs included; the estimate goes by this run alone.

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
        self._began, self._results, self._ended_before = (
            time.monotonic(),
            0,
            state.count(*ENDED),
        )
        found = best_trial(state, Objective((metric,), (mode,)))
        self._best: float | None = found[1].metrics[metric] if found else None

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Called by Tune with each result."""
        self._results += 1
        value = result.get(self._metric)
        self._keep_best(value)
        shown = " ".join(f"{key}={_short(v)}" for key, v in flat(dict(trial.config)).items())
        step = f"{result[TRAINING_ITERATION]:>{len(str(self._max_iterations))}}/{self._max_iterations}"
        best = f"best {_short(self._best)}" if self._best is not None else "best -"
        click.echo(f"{self._head()} trial {trial.trial_id} {step} {self._metric} {_short(value)} ({best}) {shown}")

    def _keep_best(self, value: Any) -> None:
        if is_number(value):
            choose = max if self._mode == "max" else min
            self._best = value if self._best is None else choose(self._best, value)

    def _head(self) -> str:
        ended = self._state.count(*ENDED)
        return f"[{ended:>{len(str(self._total))}}/{self._total} ETA {self._eta(ended)}]"

    def _eta(self, ended: int) -> str:
        """Results still expected, at the rate so far; a trial to come costs what the ended ones cost."""
        elapsed, done = time.monotonic() - self._began, max(ended - self._ended_before, 0)
        lengths = [len(t.results) for t in self._state.trials.values() if t.ended] or [self._max_iterations]
        length = sum(lengths) / len(lengths)
        expected = max(self._total - self._ended_before, 1) * length
        if not done and self._results < 3:
            return "--:--"
        left = elapsed * max(expected - self._results, 0) / max(self._results, 1)
        return f"{int(left // 60):02d}:{int(left % 60):02d}"

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called by Tune when a trial failed for good."""
        ended = "is infeasible" if trial.infeasible else "failed"
        click.echo(f"{self._head()} trial {trial.trial_id} {ended}: {_said(trial)}")

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called by Tune when a failed trial will start again."""
        click.echo(f"{self._head()} trial {trial.trial_id} starts again after {_said(trial)}")


def _said(trial: Trial) -> str:
    """Why a trial ended: its kind, and the last line of the error, of which Ray writes long ones."""
    last = error_of(trial).splitlines()[-1:]
    return f"{str(trial.kind).replace('_', ' ')}: {shorten(' '.join(last), WIDTH, placeholder=' …')}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
