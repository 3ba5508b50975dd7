"""A cell of the matrix: one sweep of one strategy under one fault, and what its journal and storage say afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from raysweep.clusters import local
from raysweep.errors import StorageError
from raysweep.history import checkpoint, journal, lease
from raysweep.history.sweep_state import ENDED, SweepState
from raysweep.spec.sweep import strategies
from raysweep.storage import Storage, open_storage
from tests.chaos import task
from tests.ray_project import Project
from tests.waiting import PATIENCE_S, until

STRATEGIES = ("random_search", "tpe", "asha", "tpe_asha", "hyperband", "pbt")
# They begin all their trials, and take no --concurrency.
TOGETHER = ("hyperband", "tpe_hyperband", "successive_halving", "pbt", "pb2")
ELSEWHERE = {"grid", "multi_objective"}  # test_serial; a task of two metrics
SAMPLES, ITERATIONS = 8, 9
PACE_S = 0.1
RECOVERY_S = 60.0
TASK_PREFIX = "chaos_"
TASK = Path(__file__).with_name("task.py").read_text()


@dataclass
class Verdict:
    """What a cell showed; `problems` names each invariant that did not hold."""

    fault: str
    strategy: str
    problems: list[str] = field(default_factory=list)
    failures: int = 0
    charged: int = 0
    repeated: int = 0
    recovery_s: float | None = None
    met: bool = True  # the fault, for certain
    wall_s: float = 0.0


@dataclass
class Cell:
    """One sweep, run by a driver of its own on the arena's cluster.

    Attributes:
        project: whose cluster it runs on.
        fault: name of the fault.
        strategy: a file of jobs/.
        storage: where sweeps go.
        folder: of this cell; the task notes its steps there, and faults are armed there.
        flags: more of them.
    """

    project: Project
    fault: str
    strategy: str
    storage: str
    folder: Path
    flags: tuple[str, ...] = ()
    faults: int = 1  # so many checkpoint intervals may be repeated
    pace: float = PACE_S
    gate: str = ""
    deadline: float = PATIENCE_S  # seconds to the next thing that is waited for
    habit: str = ""  # of all trials, see task.py
    notes: str = ""  # storage in which the task notes its steps, too
    healed: float | None = None  # when the fault was over, by the wall clock
    log: str = ""
    code: int | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("steps", "others"):
            (self.folder / name).touch()
        self.name = f"{self.fault}-{self.strategy.replace('_', '-')}-{self.folder.name}"
        self.task = f"{TASK_PREFIX}{abs(hash(self.name))}"
        settings = {"FOLDER": self.folder, "PACE": self.pace, "HABIT": self.habit}
        settings |= {"GATE": self.gate, "NOTES": self.notes}
        text = TASK
        for name, value in settings.items():
            text = text.replace(f"@{name}@", str(value))
        (self.project.folder / "tasks" / f"{self.task}.py").write_text(text)
        self.began = time.monotonic()

    @property
    def place(self) -> Storage:
        """Where the sweep is."""
        return open_storage(self.storage).child(self.name)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The journal so far."""
        try:
            return journal.read(self.place)
        except StorageError:
            return []

    def command(self) -> list[str]:
        """How its job is run."""
        job = [sys.executable, f"jobs/{self.strategy}.py", "--storage", self.storage]
        return [*job, *self.asked]

    @property
    def asked(self) -> list[str]:
        """The flags of its job, but for the storage."""
        # All trials of two cells fit at once: none waits for another cell's to end.
        few = ("--cpus-per-trial", "0.5") if self.strategy in TOGETHER else ("--concurrency", "2")
        return ["--task", self.task, "--name", self.name, "--samples", str(SAMPLES), *few, *self.flags]

    @property
    def env(self) -> dict[str, str]:
        """What a job of the cluster finds in its environment."""
        cluster = self.project.cluster
        of_job = local.environment(cluster) | {"RAY_ADDRESS": cluster.address, "PYTHONPATH": str(self.project.folder)}
        return self.project.env | self.project.ray_env | of_job

    def start(self, *more: str) -> Cell:
        """Begins it in the background."""
        self.output = self.folder / f"log-{time.monotonic_ns()}"
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [*self.command(), *more], cwd=self.project.folder, env=self.env, stdout=file, stderr=subprocess.STDOUT
            )
        return self

    def after(self, results: int) -> Cell:
        """Returns when so many results are journalled."""
        until(
            lambda: self.count("result") >= results or self._gave_up(),
            f"{results} results of {self.name}",
            self.deadline,
        )
        return self

    def _gave_up(self) -> bool:
        code = self.process.poll()
        assert code is None, f"ended with {code} before the fault:\n{self.output.read_text()}"
        return False

    def count(self, type: str) -> int:
        """Events of a type."""
        return sum(event["type"] == type for event in self.events)

    @property
    def driver(self) -> psutil.Process:
        """The supervisor's only child."""
        (child,) = until(lambda: psutil.Process(self.process.pid).children(), "a driver")
        return child

    def trial_process(self, noted: str = "steps") -> psutil.Process:
        """A process that is in the middle of an iteration of a trial that has reported.

        Args:
            noted: where the task notes its steps: "steps", or "others" for a worker that is not its trial's first.
        """

        def find() -> psutil.Process | None:
            state = SweepState(self.events)
            for line in reversed(self.steps(noted)):
                record = state.trials.get(line[0])
                if record and not record.ended and record.results and psutil.pid_exists(line[3]):
                    return psutil.Process(line[3])
            return None

        return until(find, "a trial that runs")

    def steps(self, noted: str = "steps") -> list[tuple[str, int, float, int]]:
        """Who began which iteration, when, in which process."""
        lines = [line.split() for line in self._noted(noted)]
        return [(line[0], int(line[1]), float(line[2]), int(line[3])) for line in lines if len(line) == 5]

    def _noted(self, noted: str) -> list[str]:
        return (self.folder / noted).read_text().splitlines()

    def arm(self, fault: str) -> None:
        """Breaks the next trial that begins the task's iteration AT."""
        (self.folder / fault).touch()

    def heal(self) -> None:
        """The fault is over."""
        self.healed = time.time()

    def finish(self) -> Cell:
        """Waits for its end."""
        self.code = self.process.wait(self.deadline)
        self.log += self.output.read_text()
        return self

    def verdict(self, code: int = 0, ends: tuple[str, ...] = ("finished", "stopped"), **expected: int) -> Verdict:
        """The invariants, from the journal, the storage and the task's own notes.

        Args:
            code: the exit code that is right.
            ends: how trials may have ended.
            **expected: exact counts of trials by how they ended.
        """
        events = self.events
        state = SweepState(events)
        found = Verdict(self.fault, self.strategy, wall_s=round(time.monotonic() - self.began, 1))
        found.failures = sum(event["type"] == "failure" for event in events)
        found.charged = sum(trial.status == "failed" for trial in state.trials.values())
        problem = found.problems.append
        if self.code != code:
            problem(f"I5 exit code {self.code}, not {code}: {self.log[-1500:]}")
        if len(state.trials) != SAMPLES:
            problem(f"I5 {len(state.trials)} trials, not {SAMPLES}")
        for status, count in expected.items():
            if state.count(status) != count:
                problem(f"I5 {state.count(status)} trials {status}, not {count}")
        if odd := {t.id: t.status for t in state.trials.values() if t.status not in (*ends, *expected)}:
            problem(f"I5 ended otherwise: {odd}")
        found.repeated = self._check_steps(events, problem)
        self._check_checkpoints(state, problem)
        self._check_recovery(events, found)
        if [event["seq"] for event in events] != list(range(1, len(events) + 1)):
            problem("I9 the journal's numbers have a gap")
        newest = self.place.list(lease.FOLDER)[-1]
        if not json.loads(self.place.get(newest))["released"]:
            problem("I7 the lease was not released")
        for secret in self._secrets():
            if secret in self.log:
                problem("I8 a secret is in the driver's output")
        return found

    def _check_steps(self, events: list[dict[str, Any]], problem: Callable[[str], None]) -> int:
        """I1 and I2, from the steps that the task noted; the most that one trial repeated."""
        steps = self.steps()
        ended = {e["trial"]: e["time"] for e in events if e["type"] == "complete" and e["status"] in ENDED}
        if late := {step[:2] for step in steps if step[2] > ended.get(step[0], time.time()) + 0.05}:
            problem(f"I1 steps of trials that had ended: {late}")
        repeated = Counter(step[0] for step in steps)
        for trial, _ in {step[:2] for step in steps}:
            repeated[trial] -= 1
        for trial, back in rollbacks(events).items():
            repeated[trial] -= back
        if over := {trial: count for trial, count in repeated.items() if count > self.faults}:
            problem(f"I2 more than {self.faults} intervals repeated: {over}")
        return max([*repeated.values(), 0])

    def _check_checkpoints(self, state: SweepState, problem: Callable[[str], None]) -> None:
        for trial in state.trials.values():
            best = trial.best("loss", "min")
            for saved in {trial.checkpoint, best.checkpoint if best else None} - {None}:
                try:
                    loaded = load(self.place, saved)
                except StorageError as error:
                    problem(f"I4 {error}")
                    continue
                if not trial.donors and loaded["path"] != list(range(1, saved.iteration + 1)):
                    problem(f"I4 trial {trial.id} has the path {loaded['path']} at {saved.iteration}")

    def _check_recovery(self, events: list[dict[str, Any]], found: Verdict) -> None:
        if self.healed is None:
            return
        later = [event["time"] for event in events if event["type"] == "result" and event["time"] > self.healed]
        found.recovery_s = round(min(later) - self.healed, 1) if later else None
        if later and found.recovery_s > RECOVERY_S:
            found.problems.append(f"I6 the first result came {found.recovery_s} s after the fault")

    def _secrets(self) -> list[str]:
        keys = self.project.env.get("AWS_SECRET_ACCESS_KEY", "")
        token = Path(self.project.cluster.token_path).read_text().strip()
        return [secret for secret in (token, keys) if secret]


def load(place: Storage, saved: checkpoint.Checkpoint) -> Any:
    """What the task saved, all of whose bytes are read."""
    with tempfile.TemporaryDirectory() as name:
        loaded = checkpoint.load(place, saved, lambda: Path(name) / "checkpoint")
        return json.loads((loaded / task.STATE).read_text()) if saved.folder else loaded


def rollbacks(events: list[dict[str, Any]]) -> Counter[str]:
    """Iterations that exploits took trials back by: those are done again, and ought to be."""
    at: Counter[str] = Counter()
    back: Counter[str] = Counter()
    for event in events:
        if event["type"] == "result":
            at[event["trial"]] = event["iteration"]
        elif event["type"] == "exploit":
            trial, donor = event["trial"], event["checkpoint"]["iteration"]
            back[trial] += max(at[trial] - donor, 0)
    return back


def chosen() -> tuple[str, ...]:
    """The strategies that were asked for, STRATEGY=asha,pbt or any of jobs/; those of the matrix if none was."""
    if asked := os.environ.get("CHAOS_STRATEGY"):
        known = set(strategies()) - ELSEWHERE
        unknown = set(asked.split(",")) - known
        assert not unknown, f"STRATEGY={asked}: known are {', '.join(sorted(known))}"
        return tuple(asked.split(","))
    return STRATEGIES
