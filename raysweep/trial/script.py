"""A training function that runs any program: its output has the metrics, a folder its checkpoint.

A report is complete when the output has had the metrics that are optimised; what else was found since the report before
goes with them. While the sweep decides, the program is stopped by SIGSTOP, so that nothing is written to the folder
while it is read, and nothing is trained that is not wanted. It finds the folder in the variable RAYSWEEP_CHECKPOINT,
with what the last checkpoint had, or empty.

A program may print an epoch before it saves it: the checkpoint of a report is then that of the epoch before, and the
program does an epoch again when it resumes. If its metrics include `epoch`, none is reported twice.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from raysweep import env, temporary
from raysweep.trial import leash, session
from raysweep.trial.metrics import Unreported, check_metric_name
from raysweep.values import AUTOMATIC_METRICS, flat

EPOCH = "epoch"
EPOCH_FILE = ".raysweep-epoch"  # in the checkpoint: the last epoch that was reported
SAVING_S = 10.0  # how long a file that is open for writing is waited for
POLL_S = 0.01
LATE_S = 1.0  # after the program's end, how long more output is waited for

Files = dict[str, tuple[int, int, int]]


class ScriptFailed(RuntimeError):
    """The program ended with another exit code than 0, or by a signal."""


def script(command: str, *patterns: str, grace: float = 60.0) -> Script:
    """A training function that runs a program, as `train` of a task: `train = raysweep.script("./train --lr {lr}")`.

    Args:
        command: its command line; `{lr}` stands for the parameter `lr`, `{checkpoint}` for the folder to save to and to
            resume from, `{config}` for a JSON file with the whole configuration, `{max_iterations}` for their number.
        *patterns: regular expressions with named groups, which find metrics in what it prints; without any, it prints
            an object of JSON a line.
        grace: seconds between SIGTERM and SIGKILL, when the trial ends before the program does.
    """
    return Script(tuple(shlex.split(command)), patterns, grace)


@dataclass(frozen=True)
class Script:
    """A command line as a training function.

    Attributes:
        command: its words, with placeholders of `str.format`.
        patterns: regular expressions with named groups, each a metric; without any, lines are read as JSON objects, or
            as dictionaries in Python's notation.
        grace: seconds between SIGTERM and SIGKILL.
    """

    command: tuple[str, ...]
    patterns: tuple[str, ...] = ()
    grace: float = 60.0

    @property
    def __name__(self) -> str:
        """The name of the program's file, without its ending; of the interpreter, if there is none."""
        files = [Path(word).stem for word in self.command[1:] if re.search(r"\.\w+$", word) and "{" not in word]
        return re.sub(r"\W", "_", files[0] if files else Path(self.command[0]).stem)

    def __call__(self, config: dict[str, Any]) -> None:
        """Runs the program to its end, or to that of the trial.

        Raises:
            ScriptFailed: it failed.
            Unreported: its output never had the metrics.
        """
        with temporary.folder("script") as own, session.resume_folder() as saved:
            folder = saved or own / "checkpoint"
            folder.mkdir(exist_ok=True)
            written = own / "config.json"
            written.write_text(json.dumps(config, default=str))
            own_values = {"checkpoint": folder, "config": written, "max_iterations": session.spec().max_iterations}
            values = {**flat(config), **own_values}
            command = [word.format_map(values) for word in self.command]
            with _Program(command, folder, self.grace) as program:
                reported = self._follow(program, _Folder(folder))
                _check_end(command, program.exit_code())
        if not reported and saved is None:
            wanted = " and ".join(f"`{name}`" for name in _wanted())
            where = f"what matches --pattern {' or '.join(self.patterns)}" if self.patterns else "a line that is JSON"
            raise Unreported(f"`{shlex.join(command)}` ended, and never printed {wanted} in {where}")

    def _follow(self, program: _Program, folder: _Folder) -> bool:
        """Reports what the program prints; whether there was any report."""
        found: dict[str, Any] = {}
        epoch, reported = folder.epoch(), False
        for line in program.lines():
            found |= _metrics_in(line, self.patterns)
            if any(name not in found for name in _wanted()):
                continue
            number, values, found = found.get(EPOCH), found, {}
            if isinstance(number, int | float):
                if epoch is not None and number <= epoch:
                    continue
                epoch = number
            with program.paused(folder):
                folder.write_epoch(epoch)
                session.report(values, checkpoint=folder.path if folder.has_changed() else None)
            reported = True
        return reported


def _wanted() -> list[str]:
    """The metrics with which a report is complete."""
    return [name for name in session.spec().numeric if name not in AUTOMATIC_METRICS]


def _check_end(command: list[str], code: int) -> None:
    if code:
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        raise ScriptFailed(f"`{shlex.join(command)}` ended {how}")


def _metrics_in(line: str, patterns: tuple[str, ...]) -> dict[str, Any]:
    """The metrics that a line of output has."""
    if patterns:
        matches = (re.search(pattern, line) for pattern in patterns)
        groups = {name: text for match in matches if match for name, text in match.groupdict().items() if text}
    else:
        groups = _object_in(line)
    values = {name: _number(value) for name, value in groups.items()}
    return {name: value for name, value in values.items() if _can_be_reported(name, value)}


def _object_in(line: str) -> dict[str, Any]:
    """A line that is an object of JSON, or a dictionary as Python prints it, with joined names."""
    line = line.strip()
    if not (line.startswith("{") and line.endswith("}")):
        return {}
    for read in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            value = read(line)
            return flat(value) if isinstance(value, dict) and all(isinstance(name, str) for name in value) else {}
    return {}


def _number(value: Any) -> Any:
    if isinstance(value, str):
        for read in (int, float):
            with contextlib.suppress(ValueError):
                return read(value)
    return value


def _can_be_reported(name: str, value: Any) -> bool:
    with contextlib.suppress(ValueError, TypeError):
        check_metric_name(name)
        return isinstance(value, bool | int | float | str)
    return False


class _Folder:
    """The folder with the program's checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path, self._known = path, _files(path)

    def has_changed(self) -> bool:
        """Whether the program has written to it since the last call."""
        before, self._known = self._known, _files(self.path)
        return self._known != before

    def epoch(self) -> float | None:
        """The last epoch that had been reported when it was saved."""
        with contextlib.suppress(OSError, ValueError):
            return float((self.path / EPOCH_FILE).read_text())
        return None

    def write_epoch(self, epoch: float | None) -> None:
        """Keeps the number of an epoch that is about to be reported."""
        if epoch is not None:
            (self.path / EPOCH_FILE).write_text(f"{epoch}\n")


def _files(folder: Path) -> Files:
    found = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it may go at this moment
            stat = path.stat()
            if path.name != EPOCH_FILE and path.is_file():
                found[str(path)] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return found


class _Program:
    """A program with all that it starts: a group of processes, which does not outlive its context."""

    def __init__(self, command: list[str], folder: Path, grace: float) -> None:
        self._folder, self._grace = folder, grace
        self._chunks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._kept_open: set[str] = set()
        # Not by a function that is called in the fork: it may hang, since this process has threads.
        launched = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command]
        # Python keeps what it prints to a pipe for itself, until it has some thousand characters.
        variables = {**os.environ, env.PYTHONUNBUFFERED: "1", env.RAYSWEEP_CHECKPOINT: str(folder)}
        # `python` is the one that this process runs, with the packages of the job.
        variables[env.PATH] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get(env.PATH, os.defpath)])
        self._process = subprocess.Popen(
            launched, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, env=variables
        )

    def __enter__(self) -> _Program:
        assert self._process.stdout is not None
        threading.Thread(target=self._read, args=(self._process.stdout,), name="script-output", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGCONT):  # it takes the first one when it goes on
            self._signal(number)
        until = time.monotonic() + self._grace
        while self._processes() and time.monotonic() < until:
            time.sleep(POLL_S)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _read(self, output: IO[bytes]) -> None:
        """Passes on what is printed, at once, and never lets the program wait for who reads it."""
        with output:
            while chunk := os.read(output.fileno(), 1 << 16):
                sys.stdout.buffer.write(chunk)
                sys.stdout.flush()
                self._chunks.put(chunk)
        self._chunks.put(b"")

    def lines(self) -> Iterator[str]:
        """What it prints, up to its end; a carriage return ends a line, too."""
        rest = b""
        while chunk := self._next_chunk():
            *lines, rest = re.split(rb"[\r\n]+", rest + chunk)
            yield from (line.decode(errors="replace") for line in lines)
        if rest:
            yield rest.decode(errors="replace")

    def _next_chunk(self) -> bytes:
        """Waits for output; empty at its end, which may come late: what the program leaves behind may keep it open."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self._chunks.get(timeout=LATE_S)
            if self._process.poll() is not None:
                return b""

    def exit_code(self) -> int:
        """Waits for its end; negative if it was a signal."""
        return self._process.wait()

    @contextlib.contextmanager
    def paused(self, folder: _Folder) -> Iterator[None]:
        """Stops it at a moment at which no file of the folder is being written."""
        self._pause()
        until, busy = time.monotonic() + SAVING_S, self._being_written()
        while busy - self._kept_open and time.monotonic() < until:
            self._signal(signal.SIGCONT)
            time.sleep(POLL_S)
            self._pause()
            busy = self._being_written()
        self._kept_open = busy  # such as a log of TensorBoard, which is open to the end
        yield
        self._signal(signal.SIGCONT)

    def _pause(self) -> None:
        self._signal(signal.SIGSTOP)
        while any(_runs(process) for process in self._processes()):
            time.sleep(POLL_S / 10)

    def _being_written(self) -> set[str]:
        """The files of the folder that some process has open for writing."""
        found: set[str] = set()
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                found |= {file.path for file in process.open_files() if getattr(file, "mode", "r") != "r"}
        return {path for path in found if Path(path).is_relative_to(self._folder.resolve())}

    def _processes(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            first = psutil.Process(self._process.pid)
            if self._process.poll() is None:
                return [first, *filter(self._is_ours, first.children(recursive=True))]
        return []

    def _is_ours(self, process: psutil.Process) -> bool:
        with contextlib.suppress(ProcessLookupError):
            return os.getpgid(process.pid) == self._process.pid
        return False

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return False
