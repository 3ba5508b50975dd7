"""One run of the driver: begun, killed, begun again, and what it came to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raysweep.clusters.shared.s3_keys import STORAGE
from raysweep.storage import Storage, open_storage
from tests.chaos.plain import sweep

BEFORE = 12  # steps
PACE_S, NODE_PACE_S = 0.1, 0.5
LIMIT_S, LONG_S = 90.0, 300.0


class Run:
    """One run of the driver, and what its trials noted."""

    def __init__(self, notes: Storage, start: Callable[[], subprocess.Popen[str]], limit_s: float = LIMIT_S) -> None:
        self.notes, self._start, self._limit_s = notes, start, limit_s
        self.process = start()

    def steps(self) -> list[list[str]]:
        """When, trial, iteration, process and node, in the order in which they began."""
        return sorted(key.split(",") for key in self.notes.list() if "," in key)

    def after(self, steps: int) -> None:
        """Waits for so many."""
        limit = time.monotonic() + self._limit_s
        while len(self.steps()) < steps and time.monotonic() < limit:
            time.sleep(0.02)

    def again(self) -> None:
        """The driver once more."""
        self.process = self._start()

    def kill(self) -> None:
        """The driver, and with it the private Ray that it began."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> dict[str, Any]:
        """What it came to."""
        try:
            out, _ = self.process.communicate(timeout=self._limit_s)
            code: int | str = self.process.returncode
        except subprocess.TimeoutExpired:
            self.kill()
            out, code = "", f"hung for {self._limit_s:g} s"
        if code:
            print(out[-2000:], file=sys.stderr)  # a job's log, for who wonders
        steps = Counter((line[1], line[2]) for line in self.steps())
        trials = {trial for trial, _ in steps}
        told = next((json.loads(line[6:]) for line in reversed(out.splitlines()) if line.startswith("found ")), {})
        return {"exit": code, "trials": len(trials), "repeated": sum(steps.values()) - len(steps), **told}


def privately(folder: Path, storage: str, limit_s: float = LIMIT_S, failures: str = "0", **more: str) -> Run:
    """In a private Ray of this machine."""
    notes = folder / "notes"
    notes.mkdir(exist_ok=True)
    command = [sys.executable, "-m", sweep.__name__, str(notes), storage, "1", str(PACE_S), failures]
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"HOME": str(folder), "PYTHONPATH": str(Path(__file__).parents[2]), "RAY_USAGE_STATS_ENABLED": "0"} | more

    def start() -> subprocess.Popen[str]:
        log = (folder / "log").open("a")
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env, start_new_session=True)

    return Run(open_storage(str(notes)), start, limit_s)


def as_job(fault: str, ray: list[str], project: Path, env: dict[str, str], store: str, cpus: float = 0.4) -> Run:
    """As a job on a cluster, whose own store keeps what it saves; `store` is that store's address there."""
    notes, storage = f"{STORAGE}/plain/{fault}/notes", f"{STORAGE}/plain/{fault}/runs"
    query = f"?scheme=http&endpoint_override={store}&region=us-east-1"
    job = [*ray, "job", "submit", "--working-dir", ".", "--", "python", "sweep.py", notes, storage + query]
    shutil.copy(sweep.__file__, project)

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*job, str(cpus), str(NODE_PACE_S)], cwd=project, env=env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    run = Run(open_storage(notes), start, LONG_S)
    run.after(BEFORE)
    return run
