"""The lease of a sweep: at any time one driver writes its journal.

Terms are numbered. A driver takes the next term by creating `lease/<term>.json`, which a storage lets only one driver
do, and from then on rewrites it every RENEW_SECONDS. A term whose file has not changed for LAPSE_SECONDS, by the clock
of the one who looks, has lapsed: clocks of two machines are never compared. A holder that was suspended or cut off may
wake up later; what it writes is fenced off by `journal.read`, since it bears an older term, and it finds out at its
next renewal.

M. Kleppmann, Designing Data-Intensive Applications, chapter 8: fencing tokens.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import psutil

from raysweep.errors import BadInput, NotFound, StorageError, SweepFailed
from raysweep.storage import Storage

log = logging.getLogger(__name__)

FOLDER = "lease"
RENEW_SECONDS = 1.0
LAPSE_SECONDS = 15.0
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Term:
    """What `lease/<number>.json` says.

    Attributes:
        number: from 1; the fencing token.
        holder: unique to a driver.
        place: machine, boot and pid namespace of the driver: a pid means something there only.
        host: the machine's name, for people.
        pid: the driver's process.
        born: when that process began, in ticks since the boot, so that a pid used again is not mistaken for it.
        beat: counts the renewals.
        released: the driver has left the sweep.
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
        """Where the term is in the sweep's storage."""
        return _key(self.number)

    @property
    def free(self) -> bool:
        """Whether nobody needs to wait for it: it was released, or its driver was on this machine and is gone."""
        return self.released or (self.place == _place() and not _lives(self.pid, self.born))

    def to_json(self) -> bytes:
        """As it is stored."""
        return json.dumps(asdict(self)).encode()


class Lease:
    """A term that this driver holds, renewed by a thread until `release`."""

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
        """The fencing token of everything that is written under this lease."""
        return self._term.number

    def check(self) -> None:
        """Raises SweepFailed if another driver has taken the sweep over, as far as this one has heard.

        To be called all the time: one that was not heard of for long may have been suspended, and asks the storage
        first, before its trials do a step more that is not its own.
        """
        now = time.monotonic()
        silent, self._checked = now - self._checked, now
        if silent > LAPSE_SECONDS / 2:
            with contextlib.suppress(StorageError):  # the thread asks again
                self._look()
        if self._lost_to:
            raise SweepFailed(f"{self._lost_to} has taken the sweep over: this driver stops, and nothing is lost")

    def holds(self) -> bool:
        """Whether no other driver has taken over, asked of the storage itself: for what cannot be undone."""
        self._look()
        return self._lost_to is None

    def release(self) -> None:
        """Lets the next driver begin at once."""
        self._closing.set()
        self._thread.join()
        if self._lost_to is None:
            self._put(released=True)

    def _renew(self) -> None:
        while not self._closing.wait(RENEW_SECONDS):
            try:
                self._look()
                if self._lost_to:
                    return
                self._put(beat=self._term.beat + 1)
            except StorageError as error:
                log.warning("the lease is not renewed: %s", error)  # the next second tries again

    def _look(self) -> None:
        # Terms have no gaps: one small request tells, and most looks find nothing.
        if self._storage.exists(_key(self._term.number + 1)) and (newest := _newest(self._storage)):
            self._lost_to = _who(newest)

    def _put(self, **changes: Any) -> None:
        self._term = replace(self._term, **changes)
        self._storage.put(self._term.key, self._term.to_json())


def claim(storage: Storage, tell: Callable[[str], None] = log.warning) -> Lease:
    """Takes the next term of a sweep, at once if nobody holds it, else when the holder has been silent for long enough.

    Args:
        storage: the sweep's own folder or prefix.
        tell: gets one line if there is something to wait for.

    Raises:
        BadInput: another driver runs this sweep.
        StorageError: the storage refused.
    """
    while True:
        newest = _newest(storage)
        if newest and not newest.free:
            _wait_for_lapse(storage, newest, tell)
        mine = _next_term(newest)
        if storage.create(mine.key, mine.to_json()):
            return Lease(storage, mine)


def _wait_for_lapse(storage: Storage, held: Term, tell: Callable[[str], None]) -> None:
    """Returns when the term has not changed for LAPSE_SECONDS.

    Raises:
        BadInput: it was renewed.
    """
    tell(f"the sweep was run by {_who(held)}: waiting {LAPSE_SECONDS:g} s for a sign of life")
    until = time.monotonic() + LAPSE_SECONDS
    while time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        asked = time.monotonic()
        now = _newest(storage)
        if (waited := time.monotonic() - asked) > RENEW_SECONDS:
            until += waited  # the storage was away, for the holder too
        if now and now.released:
            return
        if now != held:
            raise BadInput(
                f"the sweep in {storage.url} is being run by {_who(now or held)}: wait for its end, stop it with"
                " `raysweep stop`, or choose another --name"
            )


def _key(number: int) -> str:
    return f"{FOLDER}/{number:06d}.json"


def _newest(storage: Storage) -> Term | None:
    keys = storage.list(FOLDER)
    with contextlib.suppress(NotFound):
        return Term(**json.loads(storage.get(keys[-1]))) if keys else None
    return None


def _next_term(newest: Term | None) -> Term:
    born = _born(os.getpid())
    number = newest.number + 1 if newest else 1
    return Term(number, uuid.uuid4().hex[:8], _place(), socket.gethostname(), os.getpid(), born)


def _who(term: Term) -> str:
    return f"driver {term.holder} on {term.host} (pid {term.pid})"


def _place() -> str:
    """Names the pid namespace of this process among all machines and containers; unknown where there is no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _lives(pid: int, born: float) -> bool:
    try:
        return _born(pid) == born and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


def _born(pid: int) -> float:
    """As the kernel counts it: a time of day would change when somebody sets the clock."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        return float(stat.read_text().rpartition(")")[2].split()[19])  # field 22, starttime, of proc(5)
    return psutil.Process(pid).create_time()
