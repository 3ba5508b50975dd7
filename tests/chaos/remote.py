"""Cells on clusters whose trials run elsewhere: in containers and in pods."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

import psutil
import pytest

from raysweep.history.sweep_state import SweepState
from raysweep.storage import open_storage
from tests.chaos.cell import Cell, Verdict
from tests.chaos.conftest import trials
from tests.waiting import until

SIDE_BY_SIDE = 3
BEFORE = 2  # results of each sweep, whose trials then wait at a gate for the other sweeps, if there is one


@pytest.fixture
def leftovers() -> Callable[[], list[psutil.Process]]:
    """The trials' processes that run in containers."""
    return lambda: trials(in_containers=True)


class RemoteCell(Cell):
    """A sweep on a cluster, whose trials note their steps in its store."""

    how = "submit"  # or rayjob

    def __post_init__(self) -> None:
        self.notes = f"{self.storage}/steps/{self.folder.name}"
        super().__post_init__()
        task = self.project.folder / "tasks" / f"{self.task}.py"
        task.write_text(task.read_text().replace(f'Path("{self.folder}")', f'Path("/tmp/{self.task}")'))

    def start(self, *more: str) -> RemoteCell:
        """Begins it as a job, and follows it in the background."""
        command = [sys.executable, "-m", "raysweep", self.how, self.strategy, *self.asked, *more]
        env = self.project.env | {"PYTHONPATH": str(self.project.folder)}
        self.output = self.folder / f"log-{time.monotonic_ns()}"
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                command, cwd=self.project.folder, env=env, stdout=file, stderr=subprocess.STDOUT
            )
        return self

    def _noted(self, noted: str = "steps") -> list[str]:
        assert noted == "steps", "the others note nothing in a store"
        return sorted(open_storage(self.notes).list(), key=lambda step: float(step.split()[2]))

    @property
    def busy(self) -> set[str]:
        """Nodes on which a trial that has reported is in the middle of a step."""
        trials = SweepState(self.events).trials
        newest = {step.split()[0]: step.split() for step in self._noted()}
        return {
            node
            for trial, (_, iteration, _, _, node) in newest.items()
            if trial in trials
            and not trials[trial].ended
            and (last := trials[trial].last)
            and int(iteration) > last.iteration
        }


def busiest(cells: Sequence[RemoteCell], nodes: Sequence[str]) -> str:
    """The one of these nodes on which most of the sweeps train."""

    def find() -> str | None:
        train = Counter(node for cell in cells for node in cell.busy)
        return max((node for node in nodes if train[node]), key=train.__getitem__, default=None)

    return until(find, "a node that trains")


def hit(verdict: Verdict) -> Verdict:
    """A node's death was met by those that lost a trial with it."""
    verdict.met = verdict.failures > 0
    return verdict


def in_groups(
    cells: Sequence[RemoteCell],
    fault: Callable[[list[RemoteCell]], None],
    ends: tuple[str, ...] = ("finished", "stopped"),
    size: int = SIDE_BY_SIDE,
) -> list[Verdict]:
    """Some sweeps at a time meet the same fault, when each has some results."""
    verdicts = []
    for start in range(0, len(cells), size):
        group = list(cells[start : start + size])
        for cell in group:
            cell.start()
        for cell in group:
            cell.after(BEFORE)
        if group[0].gate:
            open_storage(group[0].storage).put(group[0].gate, b"")
        fault(group)
        for cell in group:
            cell.heal()
        verdicts += [cell.finish().verdict(ends=ends) for cell in group]
    return verdicts
