"""Runs a command and saves its output in the storage, while it runs and at its end.

python -m raysweep.submit.log_to_storage s3://bucket/sweep/logs python jobs/asha.py --name sweep

A RayJob's cluster is deleted with its job, and so is the log that Ray keeps. The objects of a run are named by its time
and their position in the log; the last line is the exit code, which KubeRay does not report either.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from raysweep.errors import StorageError
from raysweep.storage import Storage, open_storage
from raysweep.storage.append_log import AppendLog

SECONDS = 2.0  # between two versions of the newest object, if there is new output
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
ENDED = "exit code "


class Log:
    """A command's output, and the objects that it is saved to."""

    def __init__(self, place: Storage) -> None:
        self._parts, self._run = AppendLog(place), time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self._unsaved, self._saved_bytes = bytearray(), 0

    def add(self, line: bytes) -> None:
        """Appends a line."""
        self._unsaved += line

    def save(self) -> None:
        """Saves new output; an unavailable store does not end the command."""
        if new := bytes(self._unsaved):
            with contextlib.suppress(StorageError):
                self._parts.append(new, f"{self._run}.{self._saved_bytes:012d}.log")
                del self._unsaved[: len(new)]
                self._saved_bytes += len(new)


def run(command: Sequence[str], place: Storage) -> int:
    """Runs the command; its output goes to this process's output and to the storage.

    Returns:
        Its exit code; 128 + the signal's number if a signal ended it.
    """
    log, ended = Log(place), threading.Event()
    # `ray job stop` signals every process of the job: this one ignores it, to save the command's last output.
    old_handlers = {number: signal.signal(number, lambda *_: None) for number in STOP_SIGNALS}
    saver = threading.Thread(target=_save_repeatedly, args=(log, ended), name="save-log")
    saver.start()
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            for line in process.stdout:
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
                log.add(line)
            code = process.wait()
    finally:
        ended.set()
        saver.join()
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
    code = 128 - code if code < 0 else code
    log.add(f"{ENDED}{code}\n".encode())
    log.save()
    return code


def exit_code(text: str) -> int | None:
    """The exit code at the end of a saved log; None if the command has not ended."""
    match = re.search(rf"^{ENDED}(\d+)\n\Z", text, re.MULTILINE)
    return int(match[1]) if match else None


def _save_repeatedly(log: Log, ended: threading.Event) -> None:
    while not ended.wait(SECONDS):
        log.save()


if __name__ == "__main__":
    sys.exit(run(sys.argv[2:], open_storage(sys.argv[1])))
