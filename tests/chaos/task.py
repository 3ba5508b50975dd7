"""The task of the chaos cells: a bowl at a steady pace, which can break in the middle of an iteration.

Copied into a project's tasks/. FOLDER/<fault> arms a fault: the first trial that begins iteration AT of its own takes
the file away and breaks. HABIT is what all trials do. FOLDER/steps, and objects under NOTES where trials run
elsewhere, say who began which iteration, when and where: what a journal cannot know. Of a trial that has several
workers, FOLDER/others says it of all but the first.
"""

import contextlib
import ctypes
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import raysweep
from raysweep.storage import open_storage
from raysweep.trial import session as trials
from tasks.quadratic import METRIC, MODE, MUTABLE, SPACE

MAX_ITERATIONS = 9
AT = 3
FOLDER = Path("@FOLDER@")
PACE = "@PACE@"  # seconds
NOTES = "@NOTES@"
HABIT = "@HABIT@"
STATE = "state.json"  # of a checkpoint that is a folder
CLEAN_UP_S = 6.0
GATE = "@GATE@"  # object of the storage without which no trial begins iteration AT, so that all sweeps meet a fault

__all__ = ["MAX_ITERATIONS", "METRIC", "MODE", "MUTABLE", "SPACE", "train"]


def train(config: dict[str, Any]) -> None:
    """One trial; its state is the height, and all iterations that led to it."""
    state = _resumed() or {"height": 1.0, "path": []}
    try:
        _iterate(dict(config), state["height"], list(state["path"]), config)
    finally:
        if HABIT == "slow-clean-up":
            time.sleep(CLEAN_UP_S)
    if HABIT == "last-lines":
        _note_last("begun")
        time.sleep(1.0)
        _note_last("done")


def _iterate(config: dict[str, Any], height: float, path: list[int], own: dict[str, Any]) -> None:
    if HABIT == "changes-config":
        own.clear()
    for iteration in raysweep.iterations():
        _note(iteration)
        while GATE and iteration == AT and not open_storage(os.environ["RAYSWEEP_STORAGE"]).exists(GATE):
            time.sleep(0.2)
        time.sleep(float(PACE))
        height *= config["pace"]
        path.append(iteration)
        loss = (config["x"] - 1) ** 2 + (config["y"] + 2) ** 2 + height
        if HABIT == "odd-ends" and iteration > AT:
            match odd_end(_trial()):
                case "returns":
                    return
                case "raises":
                    raise ValueError("the data is upside down")
                case "nan":
                    loss = float("nan")
                case "hangs":
                    time.sleep(3600)
        _report(iteration, _broken(iteration, loss), {"height": height, "path": path})


def odd_end(trial: str) -> str:
    """How a trial ends after iteration AT, if that is its habit."""
    return ("returns", "raises", "nan", "hangs")[int(trial) % 4]


def _report(iteration: int, loss: float, state: dict[str, Any]) -> None:
    metrics: dict[str, Any] = {"loss": loss}
    if HABIT == "sparse" and iteration % 2 == 0:
        metrics = {"other": loss}
    if iteration == AT and _armed("odd-report"):
        metrics["other"] = {1, 2}
    if iteration == AT and _armed("save-refused"):
        with contextlib.suppress(OSError):
            raysweep.report(metrics, state=_Unsaveable())
    if HABIT == "folders":
        _report_folder(metrics, state)
    else:
        raysweep.report(metrics, state=state)


def _resumed() -> Any:
    if HABIT != "folders":
        return raysweep.resume()
    with raysweep.resume_folder() as folder:
        return json.loads((folder / STATE).read_text()) if folder else None


def _report_folder(metrics: dict[str, Any], state: dict[str, Any]) -> None:
    """As a model's folder is: what changes, large and small, and what every checkpoint has alike."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / STATE).write_text(json.dumps(state))
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_bytes(os.urandom(2**18))
        (folder / "vocabulary").write_bytes(bytes(range(256)) * 2**10)
        raysweep.report(metrics, checkpoint=folder)


class _Unsaveable:
    def __reduce__(self) -> str:
        raise OSError("it cannot be saved")


def _trial() -> str:
    session = trials._session
    assert session is not None
    return session.run.trial


def _note_last(what: str) -> None:
    (FOLDER / f"{what}-{_trial()}").touch()


def _note(iteration: int) -> None:
    step = f"{_trial()} {iteration} {time.time()} {os.getpid()} {platform.node()}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    first = os.environ.get("RANK", "0") == "0"
    with (FOLDER / ("steps" if first else "others")).open("a") as file:
        file.write(f"{step}\n")
    if NOTES and first:
        open_storage(NOTES).put(step, b"")


def _broken(iteration: int, loss: float) -> float:
    if _armed("eat"):
        eaten = []
        while True:
            eaten.append(bytearray(os.urandom(1 << 20)) * 64)  # touched, so that it counts
            time.sleep(0.1)  # the monitor looks four times a second
    if iteration != AT:
        return loss
    if _armed("raise"):
        raise ValueError("the data is upside down")
    if _armed("memory"):
        bytearray(1 << 60)  # more than any machine has: a real MemoryError
    if _armed("hang"):
        ctypes.PyDLL(None).sleep(3600)  # keeps the interpreter's lock: no thread and no signal handler of Python runs
    return float("nan") if _armed("nan") else loss


def _armed(fault: str) -> bool:
    try:
        (FOLDER / fault).unlink()
    except FileNotFoundError:
        return False
    return True
