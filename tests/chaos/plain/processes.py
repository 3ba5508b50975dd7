"""Faults of this machine's processes and its disk, in a private Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos.plain.run import BEFORE, privately
from tests.chaos.plain.sweep import INSIDE

ALLOWED = {"exception": "1"}  # --max-failures of ours, max_failures of Ray's
OUTSIDE = ("trial-killed", "driver-killed", "driver-hung", "state-damaged", "submitted-twice", "stopped", "disk-full")
FAULTS = (*INSIDE, *OUTSIDE)


def on_processes(faults: list[str]) -> Iterator[dict[str, Any]]:
    """What each fault came to."""
    for fault in faults:
        with tempfile.TemporaryDirectory(prefix="plain-") as place:
            folder, storage = Path(place) / "cell", Path(place) / "runs"
            for each in (folder, storage):
                each.mkdir()
            yield {"fault": fault, **_on_a_disk(fault, folder, storage)}


def _on_a_disk(fault: str, folder: Path, storage: Path) -> dict[str, Any]:
    """One of 2 MB, if it is to be full."""
    small = fault == "disk-full"
    if small:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(storage)], check=True)
    try:
        return _run(fault, folder, storage)
    finally:
        if small:
            subprocess.run(["umount", "--lazy", str(storage)], check=True)


def _run(fault: str, folder: Path, storage: Path) -> dict[str, Any]:
    if fault in INSIDE:
        (folder / "notes" / "armed").mkdir(parents=True)
        (folder / "notes" / "armed" / INSIDE[fault]).touch()
    sweep = privately(folder, str(storage), failures=ALLOWED.get(fault, "0"))
    if fault in OUTSIDE:
        sweep.after(BEFORE)
    if fault == "trial-killed":
        os.kill(int(sweep.steps()[-1][3]), signal.SIGKILL)
    elif fault == "driver-killed":
        sweep.kill()
        sweep.again()
    elif fault == "driver-hung":
        os.kill(sweep.process.pid, signal.SIGSTOP)
        second = privately(folder, str(storage))
        second.after(len(sweep.steps()) + 1)
        os.kill(sweep.process.pid, signal.SIGCONT)
        code = second.end()["exit"]
        return {**sweep.end(), "second": code}
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
        second = privately(folder, str(storage))
        return {**sweep.end(), "second": second.end()["exit"]}
    elif fault == "disk-full":
        with (storage / "filler").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(2**16)):
                    pass
            except OSError:
                pass
    return sweep.end()
