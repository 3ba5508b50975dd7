"""Runs a command and saves its output in the storage, while it runs and at its end.

python -m raysweep.submit.log_to_storage s3://bucket/sweep/logs/asha-sweep-5f0c2e python jobs/asha.py --name sweep

A cluster's log of a job goes with the cluster; this one stays, see `stored_log`. The objects of a run are named by its
time and their position in the log; the last line is the exit code, which KubeRay does not report either. Of a longer
log the beginning and the end are kept, and a line between the two says how much was left out.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from raysweep import env, sealed
from raysweep.errors import StorageError
from raysweep.storage import Storage, open_storage
from raysweep.storage.append_log import AppendLog

SECONDS = 2.0  # between two versions of the newest object, if there is new output
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
ENDED = "exit code "
HEAD_BYTES, TAIL_BYTES = 2**20, 9 * 2**20  # of a longer log, so much is kept of its beginning and of its end
CHUNK_BYTES = 2**16
DRAIN_S = 5.0  # after the command's end: what it has started may keep its output open, and is not waited for


def command(place: str) -> list[str]:
    """What a command line is prefixed with, so that its output is saved there.

    Args:
        place: a folder or s3://bucket/prefix; or relative to the storage that the job finds in its environment.
    """
    return ["python", "-m", "raysweep.submit.log_to_storage", place]


def place_of(argument: str) -> Storage | None:
    """Where a log is saved; None if the job's environment names no storage, and it would only be in the job's folder.

    Raises:
        BadInput: it is no place for a storage.
    """
    if "://" in argument or argument.startswith("/"):
        return open_storage(argument)
    storage = os.environ.get(env.RAYSWEEP_STORAGE)
    return open_storage(storage).child(argument) if storage else None


class Log:
    """A command's output, and the objects that it is saved to.

    Args:
        place: opens the storage, at the first save; None if there is none. It may fail, and is asked again then.
    """

    def __init__(self, place: Callable[[], Storage | None]) -> None:
        self._open, self._begun = place, time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self._saved: _Objects | None = None
        self._in_line = False
        self._unsaved, self._position, self._lost = bytearray(), 0, 0  # bytes of which the store has seen none

    def add(self, output: bytes) -> None:
        """Appends output."""
        self._unsaved += output
        self._in_line = not output.endswith(b"\n")

    def end(self, code: int) -> None:
        """Appends the exit code, in a line of its own, and saves the rest."""
        self.add(b"\n" * self._in_line + f"{ENDED}{code}\n".encode())
        self.save()

    def save(self) -> None:
        """Saves new output by whole lines; whatever is wrong with the store, it does not end the command."""
        new = bytes(self._unsaved)
        new = new[: new.rfind(b"\n") + 1]
        if not new:
            return
        try:
            if self._saved is None:
                self._saved = _Objects(self._open())
            self._saved.append(_left_out(self._lost) + new, f"{self._begun}.{self._position:012d}.log")
        except Exception:  # also of a library: a log is not worth a sweep
            self._forget()
            return
        del self._unsaved[: len(new)]
        self._position, self._lost = self._position + self._lost + len(new), 0

    def _forget(self) -> None:
        """Leaves out the oldest lines of what waits for the store, if that has become too much."""
        if len(self._unsaved) > TAIL_BYTES:
            cut = self._unsaved.rfind(b"\n", 0, len(self._unsaved) - TAIL_BYTES // 2) + 1
            del self._unsaved[:cut]
            self._lost += cut


class _Objects:
    """The objects of a log: its beginning, its end, and between them one that says what was left out."""

    def __init__(self, place: Storage | None) -> None:
        self._place, self._log = place, AppendLog(place) if place else None
        self._sizes: dict[str, int] = {}
        self._gap, self._left_out = "", 0

    def append(self, data: bytes, key: str) -> None:
        """Appends whole lines, see `AppendLog.append`."""
        if self._place is None or self._log is None:
            return
        key = self._log.append(data, key)
        self._sizes[key] = self._sizes.get(key, 0) + len(data)
        with contextlib.suppress(StorageError):  # what is too much now is too much next time
            self._shorten(self._place)

    def _shorten(self, place: Storage) -> None:
        sizes = list(self._sizes.values())
        behind_head = [key for n, key in enumerate(self._sizes) if sum(sizes[: n + 1]) > HEAD_BYTES]
        while len(behind_head) > 1 and sum(self._sizes[key] for key in behind_head) > TAIL_BYTES:
            key = behind_head.pop(0)
            self._gap = self._gap or key
            place.put(self._gap, _left_out(self._left_out + self._sizes[key]))
            if key != self._gap:
                place.delete(key)
            self._left_out += self._sizes.pop(key)


def _left_out(count: int) -> bytes:
    return f"[raysweep: {count} bytes are left out here]\n".encode() if count else b""


def run(command: Sequence[str], place: Callable[[], Storage | None]) -> int:
    """Runs the command; its output goes to this process's output and to the storage.

    Args:
        command: its words.
        place: opens the storage, while the command runs already.

    Returns:
        Its exit code; 128 + the signal's number if a signal ended it.
    """
    log, ended = Log(place), threading.Event()
    # `ray job stop` signals every process of the job: this one ignores it, to save the command's last output.
    old_handlers = {number: signal.signal(number, lambda *_: None) for number in STOP_SIGNALS}
    try:
        output, its_end = os.pipe()
        copier = threading.Thread(target=_copy, args=(output, log), name="copy-output", daemon=True)
        process = subprocess.Popen(command, stdout=its_end, stderr=subprocess.STDOUT)
        os.close(its_end)
        saver = threading.Thread(target=_save_repeatedly, args=(log, ended), name="save-log")
        copier.start()
        saver.start()
        code = process.wait()
        copier.join(DRAIN_S)
        ended.set()
        saver.join()
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
    code = 128 - code if code < 0 else code
    log.end(code)
    return code


def _copy(output: int, log: Log) -> None:
    """Passes the output on as it comes, not by whole lines."""
    with open(output, "rb", buffering=0) as pipe:
        while chunk := pipe.read(CHUNK_BYTES):
            log.add(chunk)
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


def exit_code(text: str) -> int | None:
    """The exit code at the end of a saved log; None if the command has not ended."""
    match = re.search(rf"^{ENDED}(\d+)\n\Z", text, re.MULTILINE)
    return int(match[1]) if match else None


def _save_repeatedly(log: Log, ended: threading.Event) -> None:
    while not ended.wait(SECONDS):
        log.save()


def _place() -> Storage | None:
    sealed.unseal()  # the storage's keys may be among the job's own variables; the command has the cluster's own so far
    return place_of(sys.argv[1])


if __name__ == "__main__":
    sys.exit(run(sys.argv[2:], _place))
