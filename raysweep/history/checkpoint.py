"""Verified checkpoints: one counts only when its marker, written last, agrees with its bytes.

Ray's own copy to S3 returns normally when the store refuses a part, so checkpoints are written, read back and
compared here before anyone hears of them. A checkpoint is a folder of two objects:

    checkpoints/<trial>/<iteration>-<hash>/state.pkl        the pickled state
    checkpoints/<trial>/<iteration>-<hash>/complete.json    size, sha256, iteration and format of the state; a note

Loading unpickles, which runs code: whoever may write to the storage may run code in the trials.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Container
from dataclasses import asdict, dataclass
from typing import Any

from ray import cloudpickle
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from raysweep.errors import Corrupt, NotFound
from raysweep.history.journal import plain
from raysweep.storage import Storage

log = logging.getLogger(__name__)

FORMAT = 1
WRITES = 5  # of a state that the storage took, and does not give back
STATE, MARKER = "state.pkl", "complete.json"


@dataclass(frozen=True)
class Checkpoint:
    """Names a verified checkpoint.

    Attributes:
        key: its folder in the sweep's storage.
        iteration: the trial's iteration after which it was saved, from 1.
        size: of the pickled state, in bytes.
        sha256: of the pickled state, in hex.
    """

    key: str
    iteration: int
    size: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """As the journal writes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Checkpoint:
        """Back from `to_dict`; further keys are ignored."""
        return cls(fields["key"], int(fields["iteration"]), int(fields["size"]), fields["sha256"])


def save(storage: Storage, trial: str, iteration: int, state: object, note: dict[str, Any] | None = None) -> Checkpoint:
    """Writes a state, reads it back, and only then marks it as complete.

    Args:
        storage: the sweep's own folder or prefix.
        trial: the trial's id.
        iteration: the trial's iteration, from 1.
        state: anything that can be pickled.
        note: what else the marker says, for `notes`.

    Raises:
        StorageError: the storage refused; what was written is not a checkpoint.
        Corrupt, NotFound: the storage took it, and does not give it back.
    """
    data = cloudpickle.dumps(state, protocol=5)
    sha256 = hashlib.sha256(data).hexdigest()
    saved = Checkpoint(f"checkpoints/{trial}/{iteration:06d}-{sha256[:8]}", iteration, len(data), sha256)
    marker = {"format": FORMAT, "iteration": iteration, "size": saved.size, "sha256": sha256, "note": note}
    _put_verified(storage, f"{saved.key}/{STATE}", data)
    _put_verified(storage, f"{saved.key}/{MARKER}", json.dumps(marker, default=plain).encode())
    return saved


def owner(key: str) -> str:
    """The trial that saved the checkpoint under this key."""
    return key.split("/")[1]


def load(storage: Storage, checkpoint: Checkpoint | str) -> Any:
    """The state of a checkpoint, given as such or by its key.

    Raises:
        NotFound: it has no marker or no state: it was never completed, or was deleted.
        Corrupt: its state is not what was saved.
    """
    key = checkpoint if isinstance(checkpoint, str) else checkpoint.key
    found, data = _read(storage, key)
    if not isinstance(checkpoint, str) and found != checkpoint:
        raise Corrupt(f"{storage.url}/{key}: another checkpoint stands there than was reported: use an older one")
    return cloudpickle.loads(data)


def load_newest(storage: Storage, wanted: Checkpoint) -> tuple[Checkpoint, Any] | tuple[None, None]:
    """The state of a checkpoint; of the newest whole one of its trial before it, if it is damaged or gone.

    Returns:
        Which one it is, and its state; None twice if the trial has none.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    try:
        return wanted, load(storage, wanted)
    except (NotFound, Corrupt) as error:
        log.warning("%s", error)
    for older in reversed(verified(storage, owner(wanted.key))):
        if older.iteration < wanted.iteration:
            return older, load(storage, older)
    return None, None


def looks_whole(storage: Storage, checkpoint: Checkpoint) -> bool:
    """Whether all of a checkpoint's bytes are there, unread: what `load` refuses may look whole.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    try:
        size = storage.size(f"{checkpoint.key}/{STATE}")
    except NotFound:
        return False
    return size == checkpoint.size and storage.exists(f"{checkpoint.key}/{MARKER}")


def delete(storage: Storage, key: str) -> None:
    """Removes a checkpoint, its marker first: an interrupted delete leaves nothing that looks complete.

    Raises:
        StorageError: the storage refused.
    """
    storage.delete(f"{key}/{MARKER}")
    storage.delete_tree(key)


def notes(storage: Storage, trial: str, but: Container[str] = ()) -> list[tuple[Checkpoint, dict[str, Any]]]:
    """The checkpoints of a trial that look whole, and their notes; those without a note are left out.

    Args:
        storage: the sweep's own folder or prefix.
        trial: the trial's id.
        but: keys of checkpoints that are left out unread.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    found = []
    for marker in storage.list(f"checkpoints/{trial}"):
        key = marker.removesuffix(f"/{MARKER}")
        if key != marker and key not in but:
            with contextlib.suppress(NotFound, Corrupt):
                saved, note = _read_marker(storage, key)
                if note and looks_whole(storage, saved):
                    found.append((saved, note))
    return found


def verified(storage: Storage, trial: str) -> list[Checkpoint]:
    """The complete checkpoints of a trial, oldest iteration first; reads every byte of them.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    complete = []
    for marker in storage.list(f"checkpoints/{trial}"):
        if marker.endswith(f"/{MARKER}"):
            try:
                complete.append(_read(storage, marker.removesuffix(f"/{MARKER}"))[0])
            except (NotFound, Corrupt):
                continue
    return sorted(complete, key=lambda found: found.iteration)


@retry(
    retry=retry_if_exception_type((Corrupt, NotFound)),
    stop=stop_after_attempt(WRITES),
    wait=wait_random_exponential(max=5),
    reraise=True,
)
def _put_verified(storage: Storage, key: str, data: bytes) -> None:
    storage.put(key, data)
    if storage.get(key) != data:
        raise Corrupt(f"{storage.url}/{key}: the storage changed what was written: check its disk and its log")


def _read(storage: Storage, key: str) -> tuple[Checkpoint, bytes]:
    found, _ = _read_marker(storage, key)
    data = storage.get(f"{key}/{STATE}")
    if (len(data), hashlib.sha256(data).hexdigest()) != (found.size, found.sha256):
        raise Corrupt(f"{storage.url}/{key}: the {len(data)} bytes are not those that were saved: use an older one")
    return found, data


def _read_marker(storage: Storage, key: str) -> tuple[Checkpoint, dict[str, Any] | None]:
    where = f"{storage.url}/{key}/{MARKER}"
    try:
        marker = json.loads(storage.get(f"{key}/{MARKER}"))
        if marker["format"] == FORMAT:
            return Checkpoint.from_dict({**marker, "key": key}), marker.get("note")
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{where}: the marker cannot be read: use an older checkpoint") from error
    raise Corrupt(f"{where}: format {marker['format']} is unknown: use the raysweep that wrote it")
