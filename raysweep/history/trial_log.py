"""What the trials of a sweep have printed: plain text in its storage.

    logs/<trial>.txt          the trial's first run while the sweep runs, and all of its runs after that
    logs/<trial>/<run>.txt    each further run until then: after a failure, a pause, an exploit or a resume

Each process writes the objects of its own runs and no others, so that two of them never overwrite each other's text;
the driver joins them at the end of the sweep. A text that grows too long keeps its beginning and its end, and a line
between the two says how much was left out. In the same folder a RayJob keeps the log of its driver.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from raysweep.errors import NotFound
from raysweep.storage import Storage

HEAD_BYTES, TAIL_BYTES = 2**20, 9 * 2**20  # of a longer text, so much is kept of its beginning and of its end
AGAIN_S, BYTES_PER_S = 3.0, 500_000  # a growing text is written, and read, at most so often, and at most so fast
_FOLDER = "logs"
_GAP = re.compile(rb"^\[raysweep: (\d+) bytes are left out here\]\n", re.MULTILINE)
_JOINING = 8  # trials whose texts are joined at the same time


class Text:
    """A text that grows by whole lines, and keeps its beginning and its end.

    Args:
        data: an earlier text, as `bytes` made it.

    Attributes:
        rest: its last line, as long as that is not finished.
    """

    def __init__(self, data: bytes = b"") -> None:
        self._head, self._tail, self._left_out = bytearray(), bytearray(), 0
        lines = data[: data.rfind(b"\n") + 1]
        self.rest = data[len(lines) :]
        # Further on it is a line of one of the texts that were joined to this one.
        gap = _GAP.search(lines, 0, HEAD_BYTES + 100)
        if gap is None:
            self.add(lines)
        else:
            self._head += lines[: gap.start()]
            self._left_out = int(gap[1])
            self._tail += lines[gap.end() :]

    def add(self, lines: bytes) -> None:
        """Appends whole lines."""
        if not self._tail and not self._left_out:
            room = lines.rfind(b"\n", 0, HEAD_BYTES - len(self._head)) + 1
            self._head += lines[:room]
            lines = lines[room:]
        self._tail += lines
        if len(self._tail) > TAIL_BYTES:
            cut = self._tail.find(b"\n", len(self._tail) - TAIL_BYTES - 1) + 1
            del self._tail[:cut]
            self._left_out += cut

    def leave_out(self, count: int) -> None:
        """Bytes that follow, and that nobody has any more."""
        self._left_out += count

    def join(self, data: bytes) -> None:
        """Appends the text of a later run; the line in which this one broke off is its last one."""
        if self.rest:
            self.add(self.rest + b"\n")
        lines = data.rfind(b"\n") + 1
        self.add(data[:lines])
        self.rest = data[lines:]

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return len(self._head) + len(self._tail)

    @property
    def grown(self) -> int:
        """Bytes of all lines so far, also of those that are left out."""
        return self.size + self._left_out

    def since(self, grown: int) -> bytes:
        """The lines that came after it had grown to so many bytes."""
        if grown < len(self._head):
            return bytes(self._head[grown:]) + self._gap(self._left_out) + bytes(self._tail)
        missed = len(self._head) + self._left_out - grown
        return self._gap(max(missed, 0)) + bytes(self._tail[max(-missed, 0) :])

    def _gap(self, count: int) -> bytes:
        return b"[raysweep: %d bytes are left out here]\n" % count if count else b""

    def __bytes__(self) -> bytes:
        return self.since(0) + self.rest


def pause(size: int) -> float:
    """Seconds between two versions of a text of so many bytes, which is written and read as a whole."""
    return AGAIN_S + size / BYTES_PER_S


def key(trial: str, run: str = "") -> str:
    """The object with what a trial printed: of its first run, or of a further one, which has a name."""
    return f"{_FOLDER}/{trial}/{run}.txt" if run else f"{_FOLDER}/{trial}.txt"


def stored(storage: Storage, key: str) -> bytes | None:
    """What an object holds; None if there is none."""
    try:
        return storage.get(key)
    except NotFound:
        return None


def read(storage: Storage, trial: str) -> Text:
    """What a trial has printed in all of its runs; empty if that is nothing.

    Args:
        storage: the sweep's own folder or prefix.
        trial: the trial's id.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    text = Text(stored(storage, key(trial)) or b"")
    for each in _further(storage, trial):
        text.join(stored(storage, each) or b"")
    return text


def _further(storage: Storage, trial: str) -> list[str]:
    return [each for each in storage.list(f"{_FOLDER}/{trial}") if each.endswith(".txt")]


def join(storage: Storage) -> None:
    """Makes one text of what each trial printed in several runs, when none of them runs any more.

    Args:
        storage: the sweep's own folder or prefix.

    Raises:
        StorageError: the storage refused, or is not reachable: the texts are as before.
    """
    trials = [name for name in storage.child(_FOLDER).folders() if re.fullmatch(r"\d{5,}", name, re.ASCII)]
    with ThreadPoolExecutor(_JOINING, thread_name_prefix="join-logs") as pool:
        try:
            for _ in pool.map(lambda trial: _join_trial(storage, trial), trials):
                pass
        finally:
            pool.shutdown(cancel_futures=True)


def _join_trial(storage: Storage, trial: str) -> None:
    if _further(storage, trial):
        storage.put(key(trial), bytes(read(storage, trial)))
        storage.delete_tree(f"{_FOLDER}/{trial}")
