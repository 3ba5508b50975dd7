"""Temporary folders that go when their process does: at its end, or, if it was killed, when the next one is made.

A folder belongs to the process that holds the lock of the file in it. The system releases a lock when its process ends,
whatever ended it; a program that the process starts does not get it, but a fork of the process shares it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

OWNER = ".owner"  # the file that is locked; a folder without it is none of ours
PREFIX = "raysweep-"
_locks: dict[Path, int] = {}  # folders of this process, and the open file that holds the lock of each


def make(kind: str, parent: Path | None = None) -> Path:
    """Makes a folder that this process owns, and removes those whose process is gone.

    Args:
        kind: part of its name, for whoever looks at the disk.
        parent: where it is made, instead of in the system's temporary directory.
    """
    parent = parent or Path(tempfile.gettempdir())
    for place in {parent, Path(tempfile.gettempdir())}:
        _remove_abandoned(place)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-", dir=parent))
    # Locked before it has its name: others never see it without an owner.
    lock = os.open(folder / f"{OWNER}.new", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (folder / f"{OWNER}.new").rename(folder / OWNER)
    _locks[folder] = lock
    return folder


def remove(folder: Path) -> None:
    """Removes a folder of this process."""
    shutil.rmtree(folder, ignore_errors=True)
    if (lock := _locks.pop(folder, None)) is not None:
        os.close(lock)


@contextlib.contextmanager
def folder(kind: str) -> Iterator[Path]:
    """A folder that is removed when the context ends."""
    made = make(kind)
    try:
        yield made
    finally:
        remove(made)


def _remove_abandoned(parent: Path) -> None:
    """Removes the folders of this user that have the file of an owner, and no owner."""
    for found in parent.glob(f"{PREFIX}*"):
        # A folder of someone else's, or one that goes at this moment.
        with contextlib.suppress(OSError), _opened(found, os.O_DIRECTORY) as place:
            if os.fstat(place).st_uid == os.geteuid():
                with _opened(OWNER, os.O_RDWR, place) as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(found, ignore_errors=True)
                    if found.exists():  # what the dead process started still writes there: the next one removes it
                        (found / OWNER).touch(mode=0o600)


@contextlib.contextmanager
def _opened(path: Path | str, flags: int, folder: int | None = None) -> Iterator[int]:
    """Opens what is there itself, never what a link points to."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
