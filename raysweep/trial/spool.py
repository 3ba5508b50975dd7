"""A file on a trial's node that takes all that its process prints, until the storage has it.

A file never makes the process wait, and outlives it: what was printed just before a crash is still there, for another
process of the node to store. Beside it lies a note of the runs whose text it holds, and up to where each is stored.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysweep.history import trial_log
from raysweep.history.trial_log import Text
from raysweep.storage import Storage

CHUNK = 2**20  # bytes that are read at once; a line that is longer becomes several
LAST_LINES, LAST_WIDTH, LAST_BYTES = 10, 300, 2**16  # what is told of a text at a failure; in so many of its bytes
GONE_S = 5.0  # for a killed process to let go of its files
_PUNCH_HOLE = 0x01 | 0x02  # of Linux: FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE


@dataclass(eq=False)
class Part:
    """What one run prints: a part of the spool, and an object of the storage.

    Attributes:
        trial: its trial.
        key: of the object.
        header: the object's first line, which says what run that was.
        label: what each line begins with, where several processes serve one trial.
        began: where it begins in the spool, in bytes.
        end: where it ends; None while it grows.
        read: up to where its whole lines were taken from the spool.
        seen: how far the spool reached then.
        shown: up to where the driver has it, if it wants to show what trials print.
        stored: up to where whole lines of it are stored.
        kept: how far the spool reached when it was stored.
        text: what was read.
    """

    trial: str
    key: str
    header: str
    label: str
    began: int
    end: int | None = None
    read: int = 0
    seen: int = 0
    shown: int = 0
    stored: int = 0
    kept: int = 0
    text: Text = field(default_factory=Text)

    def add(self, lines: bytes) -> None:
        """Appends lines, the first ones behind the header."""
        if not self.text.grown:
            self.text.add(self.header.encode())
        self.text.add(lines)

    def note(self) -> dict[str, Any]:
        """What another process needs to go on with it."""
        noted = ("trial", "key", "header", "label", "began", "shown", "stored")
        return {name: getattr(self, name) for name in noted}


def collapsed(text: bytes) -> bytes:
    """The text without what was overwritten in place: of a progress bar, its last state."""
    if b"\r" not in text:
        return text
    return b"\n".join(line.rstrip(b"\r").rpartition(b"\r")[2] for line in text.split(b"\n"))


def next_lines(file: int, at: int, end: int, final: bool, label: str = "") -> tuple[bytes, int]:
    """The next whole lines of a file, and where they end; its last line counts as whole if the text is final."""
    data = os.pread(file, min(CHUNK, end - at), at)
    cut = len(data) if final and at + len(data) == end else data.rfind(b"\n") + 1
    if not cut and len(data) == CHUNK:
        if overwritten := data.rstrip(b"\r").rfind(b"\r") + 1:
            return b"", at + overwritten
        cut = CHUNK
    lines = collapsed(data[:cut])
    if lines and not lines.endswith(b"\n"):
        lines += b"\n"
    if lines and label:
        start = label.encode()
        lines = start + lines[:-1].replace(b"\n", b"\n" + start) + b"\n"
    return lines, at + cut


def punch(file: int, begin: int, end: int) -> None:
    """Gives the room of these bytes back to the disk; where that is not possible, they stay."""
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fallocate(file, _PUNCH_HOLE, ctypes.c_longlong(begin), ctypes.c_longlong(end - begin))


def write_note(file: int, note: dict[str, Any]) -> None:
    """Writes the note, in one call: a process that is killed leaves the old one or the new one."""
    os.pwrite(file, json.dumps(note).encode() + b"\n", 0)  # what remains of a longer one is behind the line


def last_lines(spool: str, notes: str) -> tuple[str, ...]:
    """The last lines of what the newest run of a process printed, on the node of the process; long ones shortened."""
    try:
        note = _read_note(Path(notes).read_bytes())
        with Path(spool).open("rb") as file:
            return last_lines_of(file.fileno(), note["runs"][-1]["began"])
    except (OSError, ValueError, IndexError):
        return ()


def last_lines_of(file: int, began: int) -> tuple[str, ...]:
    """The last lines of an open spool, of a run that began there."""
    size = os.fstat(file).st_size
    begin = max(began, size - LAST_BYTES)
    data = os.pread(file, size - begin, begin)
    lines = [line.rstrip() for line in collapsed(data).decode(errors="replace").splitlines()]
    shown = [line if len(line) <= LAST_WIDTH else f"{line[:LAST_WIDTH]} …" for line in lines if line]
    return tuple(shown[-LAST_LINES:])


def _read_note(data: bytes) -> dict[str, Any]:
    note: dict[str, Any] = json.loads(data.partition(b"\n")[0])
    return note


def rescue(spool: str, notes: str, storage: Storage, show: Any = None, patience: float = GONE_S) -> None:
    """Stores what a process of this node printed before it ended, and removes its files.

    Does nothing if the process is still there after so many seconds, or if its sweep is another one.

    Args:
        spool: the file with what it printed.
        notes: the file with the note of its runs.
        storage: of the sweep.
        show: where the driver wants to show what trials print.
        patience: seconds to wait for the end of the process.

    Raises:
        StorageError: the storage refused: the files stay.
    """
    with contextlib.suppress(FileNotFoundError), _ownerless(notes, patience) as file:
        note = _read_note(os.pread(file, os.fstat(file).st_size, 0)) if file is not None else {}
        if note.get("url") == storage.url:
            with Path(spool).open("rb") as text:
                ends = [*(run["began"] for run in note["runs"][1:]), os.fstat(text.fileno()).st_size]
                for run, end in zip(note["runs"], ends, strict=True):
                    _store_rest(text.fileno(), Part(**run, end=end), note["punched"], storage, show)
            Path(spool).unlink()
            Path(notes).unlink()


def _store_rest(file: int, part: Part, punched: int, storage: Storage, show: Any) -> None:
    assert part.end is not None
    part.read = max(part.stored, punched)
    if part.read >= part.end:
        return
    part.text = Text(trial_log.stored(storage, part.key) or b"")
    part.text.rest = b""
    if part.read > part.stored:
        part.add(b"")
        part.text.leave_out(part.read - part.stored)
    while part.read < part.end:
        lines, part.read = next_lines(file, part.read, part.end, True, part.label)
        part.add(lines)
        if show is not None and lines and part.read > part.shown:
            show.put((part.trial, lines))
    storage.put(part.key, bytes(part.text))


@contextlib.contextmanager
def _ownerless(notes: str, patience: float) -> Iterator[int | None]:
    """The open file, locked, once the process that wrote it is gone; None if it is not."""
    file, until = os.open(notes, os.O_RDWR | os.O_CLOEXEC), time.monotonic() + patience
    try:
        while not (free := lock(file)) and time.monotonic() < until:
            time.sleep(0.05)
        yield file if free else None
    finally:
        os.close(file)


def lock(file: int) -> bool:
    """Takes a lock of this process alone, not of its forks; it goes with the process. False if another one has it."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
