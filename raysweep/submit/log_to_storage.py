"""Runs a command and keeps what it prints in the storage, while it runs and at its end.

python -m raysweep.submit.log_to_storage s3://bucket/sweep/logs python jobs/asha.py --name sweep

A RayJob's cluster goes with its job, and with it the log that Ray keeps. The objects of a run are named by its time and
where in the log they begin; the last line is the exit code, which KubeRay does not tell either.
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

SECONDS = 2.0  # between two versions of the newest object, if there is something new
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
ENDED = "exit code "


class Log:
    """What was printed, and the objects that it goes to."""

    def __init__(self, place: Storage) -> None:
        self._parts, self._run = AppendLog(place), time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self._held, self._kept = bytearray(), 0  # what is still to be kept, and bytes that are

    def add(self, line: bytes) -> None:
        """Appends a line."""
        self._held += line

    def keep(self) -> None:
        """Writes what is new; a store that is away for a while is no reason to end the command."""
        if new := bytes(self._held):
            with contextlib.suppress(StorageError):
                self._parts.append(new, f"{self._run}.{self._kept:012d}.log")
                del self._held[: len(new)]
                self._kept += len(new)


def run(command: Sequence[str], place: Storage) -> int:
    """Runs the command; its output goes to this process's, and to the storage.

    Returns:
        Its exit code; 128 and the signal's number if one ended it.
    """
    log, ended = Log(place), threading.Event()
    # `ray job stop` signals each process of the job: the command ends itself, and its last words are kept.
    before = {number: signal.signal(number, lambda *_: None) for number in STOP_SIGNALS}
    keeper = threading.Thread(target=_keep, args=(log, ended), name="keep-log")
    keeper.start()
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
        keeper.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    code = 128 - code if code < 0 else code
    log.add(f"{ENDED}{code}\n".encode())
    log.keep()
    return code


def exit_code(text: str) -> int | None:
    """The exit code at the end of a kept log; None if the command had not ended."""
    found = re.search(rf"^{ENDED}(\d+)\n\Z", text, re.MULTILINE)
    return int(found[1]) if found else None


def _keep(log: Log, ended: threading.Event) -> None:
    while not ended.wait(SECONDS):
        log.keep()


if __name__ == "__main__":
    sys.exit(run(sys.argv[2:], open_storage(sys.argv[1])))
