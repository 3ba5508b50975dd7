"""Plain Ray Tune under the same faults: what it does with them, for the column beside ours in docs/faults.md.

    python -m tests.chaos.plain FAULT                      runs the fault in a private Ray, prints one line of JSON
    python -m tests.chaos.plain --all FILE                 runs them all, adds the lines to FILE

The sweep is that of a cell (ASHA, 8 trials of 9 iterations of the bowl), written as Ray's documentation has it: a
function trainable that reports a checkpoint in each iteration, a Tuner, `Tuner.restore` after a death of the driver.
What happened is read from the steps that the trials note, not from Ray's own summary.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

SAMPLES, ITERATIONS, AT, PACE_S = 8, 9, 3, 0.1
LIMIT_S = 90.0
INSIDE = {"exception": "raise", "trial-memory": "memory", "nan": "nan", "trial-hung": "hang"}
OUTSIDE = ("trial-killed", "driver-killed", "state-damaged", "submitted-twice", "stopped", "disk-full")


def train(config: dict[str, Any]) -> None:
    """The bowl, as a function trainable."""
    import ctypes

    from ray import tune

    folder = Path(config["folder"])
    path, height = [], 1.0
    if saved := tune.get_checkpoint():
        with saved.as_directory() as place:
            path, height = json.loads((Path(place) / "state.json").read_text())
    for iteration in range(len(path) + 1, ITERATIONS + 1):
        with (folder / "steps").open("a") as file:
            file.write(f"{tune.get_context().get_trial_id()} {iteration} {os.getpid()}\n")
        time.sleep(PACE_S)
        height *= config["pace"]
        path.append(iteration)
        loss = (config["x"] - 1) ** 2 + (config["y"] + 2) ** 2 + height
        for fault in INSIDE.values():
            if iteration != AT or not (folder / fault).exists():
                continue
            (folder / fault).unlink()
            if fault == "raise":
                raise ValueError("the data is upside down")
            if fault == "memory":
                bytearray(1 << 60)
            if fault == "hang":
                ctypes.PyDLL(None).sleep(3600)
            loss = float("nan")
        with tempfile.TemporaryDirectory() as place:
            (Path(place) / "state.json").write_text(json.dumps([path, height]))
            tune.report({"loss": loss}, checkpoint=tune.Checkpoint.from_directory(place))


def drive(folder: Path, storage: Path) -> None:
    """The driver, which restores the sweep if there is one."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    ray.init(num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    space = {
        "x": tune.uniform(-5.0, 5.0), "y": tune.uniform(-5.0, 5.0), "pace": tune.choice([0.5, 0.7, 0.9]),
        "folder": str(folder),
    }  # fmt: skip
    trainable = tune.with_resources(train, {"cpu": 1})
    if tune.Tuner.can_restore(str(storage / "sweep")):
        tuner = tune.Tuner.restore(str(storage / "sweep"), trainable, resume_unfinished=True)
    else:
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                metric="loss", mode="min", scheduler=ASHAScheduler(max_t=ITERATIONS), num_samples=SAMPLES
            ),
            run_config=tune.RunConfig(name="sweep", storage_path=str(storage), verbose=0),
        )
    found = tuner.fit()
    print(json.dumps({"results": len(found), "errors": found.num_errors}), flush=True)


class Run:
    """One run of the driver in a process of its own, and what its trials noted."""

    def __init__(self, folder: Path, storage: Path) -> None:
        self.folder, self.storage = folder, storage
        (folder / "steps").touch()
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        code = (
            "import sys; from pathlib import Path; from tests.chaos.plain import drive; drive(*map(Path, sys.argv[1:]))"
        )
        command = [sys.executable, "-c", code, str(self.folder), str(self.storage)]
        env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
        env |= {"HOME": str(self.folder), "PYTHONPATH": str(Path(__file__).parents[2]), "RAY_USAGE_STATS_ENABLED": "0"}
        log = (self.folder / "log").open("a")
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env, start_new_session=True)

    def steps(self) -> list[list[str]]:
        """Trial, iteration, process."""
        return [line.split() for line in (self.folder / "steps").read_text().splitlines()]

    def after(self, steps: int) -> None:
        """Waits for so many."""
        limit = time.monotonic() + LIMIT_S
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
            out, _ = self.process.communicate(timeout=LIMIT_S)
            code: int | str = self.process.returncode
        except subprocess.TimeoutExpired:
            self.kill()
            out, code = "", f"hung for {LIMIT_S:g} s"
        steps = Counter((line[0], line[1]) for line in self.steps())
        trials = {trial for trial, _ in steps}
        told = json.loads(out.splitlines()[-1]) if out.strip() else {}
        return {"exit": code, "trials": len(trials), "repeated": sum(steps.values()) - len(steps), **told}


def run(fault: str) -> dict[str, Any]:
    """One fault, in folders of its own."""
    with tempfile.TemporaryDirectory(prefix="plain-") as place:
        folder, storage = Path(place) / "cell", Path(place) / "runs"
        folder.mkdir()
        small = fault == "disk-full"
        if small:
            storage.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(storage)], check=True)
        try:
            return {"fault": fault, **_run(fault, folder, storage)}
        finally:
            if small:
                subprocess.run(["umount", "--lazy", str(storage)], check=True)


def _run(fault: str, folder: Path, storage: Path) -> dict[str, Any]:
    if fault in INSIDE:
        (folder / INSIDE[fault]).touch()
    sweep = Run(folder, storage)
    if fault in OUTSIDE:
        sweep.after(12)
    if fault == "trial-killed":
        os.kill(int(sweep.steps()[-1][2]), signal.SIGKILL)
    elif fault == "driver-killed":
        sweep.kill()
        sweep.again()
    elif fault == "state-damaged":
        sweep.kill()
        for state in (storage / "sweep").glob("experiment_state-*.json"):
            state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
        sweep.again()
    elif fault == "stopped":
        os.kill(sweep.process.pid, signal.SIGTERM)
        sweep.process.wait()
        sweep.again()
    elif fault == "submitted-twice":
        second = Run(folder, storage)
        return {**sweep.end(), "second": second.end()["exit"]}
    elif fault == "disk-full":
        with (storage / "filler").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(2**16)):
                    pass
            except OSError:
                pass
    return sweep.end()


if __name__ == "__main__":
    if sys.argv[1] == "--all":
        for each in (*INSIDE, *OUTSIDE):
            line = json.dumps(run(each))
            print(line, flush=True)
            with Path(sys.argv[2]).open("a") as kept:
                kept.write(line + "\n")
    else:
        print(json.dumps(run(sys.argv[1])))
