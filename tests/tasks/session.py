"""A sweep's side of `raysweep.report`, in this process and without Ray: what a task's `train` is run against."""

import contextlib
import dataclasses
import pickle

import numpy as np
import pytest

import raysweep


class _Stopped(Exception):
    """Unwinds `train`, as a trial does that a scheduler stops a trial."""


class Session:
    """Runs `train`, records its reports, stops it and resumes it from the pickled state."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Not setattr: reading the attribute first would import the real ones, and Ray with them.
        for name in ("resume", "iterations", "report"):
            monkeypatch.setitem(vars(raysweep), name, getattr(self, f"_{name}"))
        self.start()

    def start(self) -> None:
        """Forgets everything, for another trial."""
        self.reports: list[dict[str, float]] = []
        self.saved: bytes | None = None

    def run(self, task, config, data=None, iterations=None, stop_at=None) -> list[dict[str, float]]:
        """The reports of the trial so far; a trial that was stopped before continues where it was."""
        self._last, self._stop_at = iterations or task.MAX_ITERATIONS, stop_at
        arguments = (dict(config),) if data is None else (dict(config), data)
        with contextlib.suppress(_Stopped):
            task.train(*arguments)
        return self.reports

    def fresh(self, *arguments, **options) -> list[dict[str, float]]:
        """`run`, of a trial that begins."""
        self.start()
        return self.run(*arguments, **options)

    @property
    def state(self):
        """What the trial saved last, as `raysweep.resume` gives it."""
        return None if self.saved is None else pickle.loads(self.saved)

    def _resume(self):
        return self.state

    def _iterations(self):
        return iter(range(len(self.reports) + 1, self._last + 1))

    def _report(self, metrics, state=None) -> None:
        assert all(type(value) is float for value in metrics.values()), metrics
        self.reports.append(metrics)
        self.saved = pickle.dumps(state)
        if len(self.reports) == self._stop_at:
            raise _Stopped


def read_only(data):
    """The data as Ray's object store gives them to a trial."""
    for value in vars(data).values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
        elif dataclasses.is_dataclass(value):
            read_only(value)
    return data


def overlap(one, other) -> int:
    """How many examples of one part are in another."""
    return len({row.tobytes() for row in one.inputs} & {row.tobytes() for row in other.inputs})
