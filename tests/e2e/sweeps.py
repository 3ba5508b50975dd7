"""What the end-to-end tests share: tasks that go at the test's pace, and the journal of a sweep that runs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from raysweep.history import checkpoint, journal
from raysweep.history.sweep_state import SweepState
from raysweep.storage import open_storage
from tests.ray_project import Project
from tests.waiting import PATIENCE_S, until

# Its state is the list of the iterations that led to it: none may be missing, none twice.
PACED_TASK = """
import time
from pathlib import Path

import raysweep
from tasks.quadratic import METRIC, MODE, SPACE

MAX_ITERATIONS = 9
PACE = Path({pace!r})


def train(config):
    path = raysweep.resume() or []
    for iteration in raysweep.iterations():
        began = time.monotonic()
        while (left := began + float(PACE.read_text()) - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))
        path = [*path, iteration]
        raysweep.report({{"loss": (config["x"] - 1) ** 2 + 1 / iteration}}, state=path)
"""


def add_paced_task(project: Project, pace: Path, seconds: float) -> None:
    """The task `paced`: an iteration takes as many seconds as the file `pace` says at that moment."""
    set_pace(pace, seconds)
    add_task(project, "paced", PACED_TASK.format(pace=str(pace)))


def set_pace(pace: Path, seconds: float) -> None:
    """Changes it for the iterations that run, too."""
    new = pace.with_name("new-pace")
    new.write_text(str(seconds))
    new.replace(pace)


def add_task(project: Project, name: str, text: str) -> None:
    (project.folder / "tasks" / f"{name}.py").write_text(text)


def submit(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`raysweep submit …` to its end; stderr is part of stdout."""
    return project.run("submit", *arguments, seconds=PATIENCE_S)


def start(project: Project, *arguments: str) -> subprocess.Popen[str]:
    """`raysweep …` in the background; stderr is part of stdout."""
    return subprocess.Popen(
        project.command(*arguments), cwd=project.folder, env=project.env,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def events_of(place: Path) -> list[dict[str, Any]]:
    return journal.read(open_storage(str(place))) if place.exists() else []


def wait_for(place: Path, type: str, count: int) -> None:
    """Returns when the journal holds so many events of a type."""

    def there() -> bool:
        return [event["type"] for event in events_of(place)].count(type) >= count

    until(there, f"the sweep did not get to {count} events `{type}`")


def check_resume(before: list[dict[str, Any]], after: list[dict[str, Any]], samples: int) -> None:
    """From the journal alone: what had ended stays as it was, the others go on from their last checkpoints."""
    assert after[: len(before)] == before
    then, now, added = SweepState(before), SweepState(after), after[len(before) :]
    assert len(now.trials) == samples
    assert all(trial.status in ("finished", "stopped") for trial in now.trials.values())
    touched = {event["trial"] for event in added if "trial" in event}
    ended = {trial.id for trial in then.trials.values() if trial.ended}
    assert not ended & touched, "a trial that had ended was touched again"
    for trial in then.unfinished:
        again = [e["iteration"] for e in added if e["type"] == "result" and e["trial"] == trial.id]
        if trial.checkpoint and again:
            assert again[0] == trial.checkpoint.iteration + 1


def check_paths(place: Path, trials: Iterable[str]) -> None:
    """From the checkpoints of the task `paced`: every trial made each of its iterations once."""
    storage, state = open_storage(str(place)), SweepState(events_of(place))
    for trial in trials:
        last = state.trials[trial].last
        assert last is not None
        assert last.checkpoint is not None
        assert checkpoint.load(storage, last.checkpoint) == list(range(1, last.iteration + 1))
