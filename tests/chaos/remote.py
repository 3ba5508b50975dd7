"""Cells on clusters whose trials run elsewhere: in containers and in pods."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import psutil
import pytest

from raysweep.storage import open_storage
from tests.chaos.cell import Cell, Verdict
from tests.chaos.conftest import trials

SIDE_BY_SIDE = 3
BEFORE = 2  # results of each sweep, whose trials then wait at a gate for the other sweeps, if there is one


@pytest.fixture
def leftovers() -> Callable[[], list[psutil.Process]]:
    """The trials' processes that run in containers."""
    return lambda: trials(in_containers=True)


class RemoteCell(Cell):
    """A sweep on a cluster whose steps are not seen from here: the results stand for them."""

    how = "submit"  # or rayjob

    def __post_init__(self) -> None:
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

    def steps(self) -> list[tuple[str, int, float, int]]:
        """The results, as they were journalled."""
        results = [event for event in self.events if event["type"] == "result"]
        return [(event["trial"], event["iteration"], event["time"], 0) for event in results]


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
