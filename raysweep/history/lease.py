"""The lease of a sweep: only one driver at a time writes its journal.

Terms are numbered. A driver takes the next term by creating `lease/<term>.json`, which the storage allows only one
driver to do, and then rewrites the file every RENEW_SECONDS. A term whose file has not changed for LAPSE_SECONDS has
lapsed; the waiting driver measures this with its own clock, so clocks of two machines are never compared. A holder that
was suspended or cut off may wake up later: `journal.read` ignores what it writes, since it has an older term, and it
notices at its next renewal.

M. Kleppmann, Designing Data-Intensive Applications, chapter 8: fencing tokens.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, get_type_hints

import psutil

from raysweep.errors import BadInput, NotFound, StorageError, SweepFailed
from raysweep.history import segments
from raysweep.storage import Storage

log = logging.getLogger(__name__)

FOLDER = "lease"
_NAME = re.compile(rf"{FOLDER}/(\d{{6,}})\.json")
RENEW_SECONDS = 1.0
LAPSE_SECONDS = 15.0
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Term:
    """The content of `lease/<number>.json`.

    Attributes:
        number: from 1; the fencing token.
        holder: a unique id of the driver.
        place: boot id and pid namespace of the driver: its pid is valid only there.
        host: the machine's name, for messages.
        pid: the driver's process.
        born: start time of that process, in ticks since boot, which tells it from a later process with the same pid.
        beat: number of renewals.
        released: whether the driver has left the sweep.
    """

    number: int
    holder: str
    place: str
    host: str
    pid: int
    born: float
    beat: int = 0
    released: bool = False

    @property
    def key(self) -> str:
        """The key of its file in the sweep's storage."""
        return _key(self.number)

    @property
    def free(self) -> bool:
        """Whether the next term can begin at once: it was released, or its driver on this machine has ended."""
        return self.released or (self.place == _place() and not _is_running(self.pid, self.born))

    def to_json(self) -> bytes:
        """The content of its file."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, number: int, content: bytes) -> Term:
        """The inverse of `to_json`. A damaged file is a term of an unknown driver, which may be running."""
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            term = cls(**json.loads(content))
            if term.number == number and all(type(vars(term)[name]) is kind for name, kind in _KINDS.items()):
                return term
        return cls(number, f"unknown:{zlib.crc32(content):x}", "", "unknown", 0, 0.0)


_KINDS = get_type_hints(Term)


class Lease:
    """A term held by this driver; a thread renews it until `release`."""

    def __init__(self, storage: Storage, term: Term) -> None:
        self._storage, self._term = storage, term
        self._lost_to: str | None = None
        self._checked = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def term(self) -> int:
        """The fencing token of everything written under this lease."""
        return self._term.number

    def check(self) -> None:
        """Raises SweepFailed if another driver has taken the sweep over, as far as this one knows.

        To be called in every turn of the loop: after a long pause this process may have been suspended, so it asks the
        storage first, before its trials continue with work that another driver is doing.
        """
        now = time.monotonic()
        pause, self._checked = now - self._checked, now
        if pause > LAPSE_SECONDS / 2:
            with contextlib.suppress(StorageError):  # the thread tries again
                self._check_newer_term()
        if self._lost_to:
            raise SweepFailed(f"{self._lost_to} has taken the sweep over: this driver stops, nothing is lost")

    def holds(self) -> bool:
        """Whether no other driver has taken over, checked in the storage; ask before doing what cannot be undone."""
        self._check_newer_term()
        return self._lost_to is None

    def release(self) -> None:
        """Ends the lease, so that the next driver can start at once."""
        self._closing.set()
        self._thread.join()
        if self._lost_to is None:
            self._put(released=True)

    def _renew(self) -> None:
        told = ""
        while not self._closing.wait(RENEW_SECONDS):
            try:
                self._check_newer_term()
                if self._lost_to:
                    return
                self._put(beat=self._term.beat + 1)
                told = ""
            except StorageError as error:
                reason = str(error).partition(": ")[2]  # without the object: it is now this one, now that
                if reason != told:  # else it would be told every second
                    log.warning("the lease is not renewed yet, trying again: %s", error)
                told = reason

    def _check_newer_term(self) -> None:
        # Terms have no gaps: usually one small request shows that there is no newer term.
        if self._storage.exists(_key(self._term.number + 1)) and (last := newest(self._storage)):
            self._lost_to = _who(last)

    def _put(self, **changes: Any) -> None:
        self._term = replace(self._term, **changes)
        self._storage.put(self._term.key, self._term.to_json())


def claim(storage: Storage, notify: Callable[[str], None] = log.warning) -> Lease:
    """Takes the next term of a sweep: at once if the last one is free, else after it has lapsed.

    Args:
        storage: the sweep's own folder or prefix.
        notify: called with one line if there is a wait.

    Raises:
        BadInput: another driver runs this sweep.
        StorageError: the storage refused.
    """
    while True:
        last = wait_until_free(storage, notify)
        # Also if somebody removed the files of terms: what this driver writes has to follow the journal's last term.
        term = _next_term(max(last.number if last else 0, segments.last_term(storage)))
        if storage.create(term.key, term.to_json()):
            return Lease(storage, term)


def wait_until_free(storage: Storage, notify: Callable[[str], None] = log.warning) -> Term | None:
    """The last term of a sweep, as soon as it is known that no driver holds it; writes nothing.

    Args:
        storage: the sweep's own folder or prefix.
        notify: called with one line if there is a wait.

    Raises:
        BadInput: a driver runs this sweep.
        StorageError: the storage refused.
    """
    last = newest(storage)
    if last and not last.free:
        _wait_for_lapse(storage, last, notify)
    return last


def _wait_for_lapse(storage: Storage, term: Term, notify: Callable[[str], None]) -> None:
    """Returns when the term has not changed for LAPSE_SECONDS.

    Raises:
        BadInput: it was renewed.
    """
    notify(f"the sweep was run by {_who(term)}: waiting {LAPSE_SECONDS:g} s to see whether it is still running")
    until = time.monotonic() + LAPSE_SECONDS
    while time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        request_time = time.monotonic()
        last = newest(storage)
        if (delay := time.monotonic() - request_time) > RENEW_SECONDS:
            until += delay  # the storage was unavailable, to the holder too
        if last and last.released:
            return
        if last != term:
            raise BadInput(
                f"the sweep in {storage.url} is being run by {_who(last or term)}: wait for its end, stop it with"
                " `raysweep stop`, or choose another --name"
            )


def _key(number: int) -> str:
    return f"{FOLDER}/{number:06d}.json"


def newest(storage: Storage) -> Term | None:
    """The last term of a sweep, as its file is now; None before the first one."""
    numbers = [int(name[1]) for key in storage.list(FOLDER) if (name := _NAME.fullmatch(key))]
    with contextlib.suppress(NotFound):
        return Term.from_json(max(numbers), storage.get(_key(max(numbers)))) if numbers else None
    return None


def _next_term(last: int) -> Term:
    born = _start_time(os.getpid())
    return Term(last + 1, uuid.uuid4().hex[:8], _place(), socket.gethostname(), os.getpid(), born)


def _who(term: Term) -> str:
    if not term.place:
        return f"an unknown driver ({term.key} is damaged)"
    return f"driver {term.holder} on {term.host} (pid {term.pid})"


def _place() -> str:
    """Identifies the pid namespace of this process across machines and containers; the host name without /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _is_running(pid: int, born: float) -> bool:
    try:
        return _start_time(pid) == born and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


def _start_time(pid: int) -> float:
    """Start time of a process in the kernel's ticks since boot: a time of day would change if the clock is set."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        return float(stat.read_text().rpartition(")")[2].split()[19])  # field 22, starttime, of proc(5)
    return psutil.Process(pid).create_time()
