"""Verified checkpoints: a checkpoint is valid only if its marker, written last, matches its bytes.

Ray's own upload to S3 reports success even if the store refuses a part, so here a checkpoint is written, read back
and compared before it is reported. A checkpoint is a folder of two objects:

    checkpoints/<trial>/<iteration>-<hash>/state.pkl        the pickled state
    checkpoints/<trial>/<iteration>-<hash>/complete.json    size, sha256, iteration and format of the state; a note

Loading unpickles, which executes code: whoever can write to the storage can run code in the trials.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import pickle
from collections.abc import Container
from dataclasses import asdict, dataclass
from typing import Any

from ray import cloudpickle
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from raysweep.errors import Corrupt, NotFound
from raysweep.storage import Storage
from raysweep.values import plain

log = logging.getLogger(__name__)

FORMAT = 1
WRITES = 5  # attempts, if the storage accepts an object but does not give it back intact
STATE, MARKER = "state.pkl", "complete.json"


@dataclass(frozen=True)
class Checkpoint:
    """Identifies a verified checkpoint.

    Attributes:
        key: the checkpoint's folder in the sweep's storage.
        iteration: the trial's iteration after which the state was saved, from 1.
        size: of the pickled state, in bytes.
        sha256: of the pickled state, in hex.
    """

    key: str
    iteration: int
    size: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """The fields, as the journal stores them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Checkpoint:
        """The inverse of `to_dict`; ignores other keys."""
        return cls(fields["key"], int(fields["iteration"]), int(fields["size"]), fields["sha256"])


def save(storage: Storage, trial: str, iteration: int, state: object, note: dict[str, Any] | None = None) -> Checkpoint:
    """Writes a state, reads it back, and only then marks it as complete.

    Args:
        storage: the sweep's own folder or prefix.
        trial: the trial's id.
        iteration: the trial's iteration, from 1.
        state: anything that can be pickled.
        note: more fields for the marker; `notes` reads them.

    Raises:
        StorageError: the storage refused; there is no valid checkpoint.
        Corrupt, NotFound: the storage accepted the state, but does not give it back intact.
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
    """The state of a checkpoint, or of the checkpoint with this key.

    Raises:
        NotFound: there is no marker or no state: the checkpoint was never completed, or was deleted.
        Corrupt: the state is not what was saved.
    """
    key = checkpoint if isinstance(checkpoint, str) else checkpoint.key
    stored, data = _read(storage, key)
    if not isinstance(checkpoint, str) and stored != checkpoint:
        raise Corrupt(f"{storage.url}/{key}: another checkpoint is stored there than was reported: use an older one")
    return _Unpickler(io.BytesIO(data)).load()


class _Unpickler(pickle.Unpickler):
    """Puts tensors that were saved on a GPU into main memory, if this machine has none; torch itself would refuse.

    Torch is imported only for a state that has tensors.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Called for each class and function that a state names."""
        return _storage if (module, name) == ("torch.storage", "_load_from_bytes") else super().find_class(module, name)


def _storage(data: bytes) -> Any:
    """What torch's own `_load_from_bytes` returns: the storage of a tensor, which it pickles within a pickle."""
    import torch

    def place(storage: Any, location: str) -> Any:
        return storage if location.startswith("cuda") and not torch.cuda.is_available() else None

    return torch.load(io.BytesIO(data), map_location=place, weights_only=False)


def load_newest(storage: Storage, newest: Checkpoint) -> tuple[Checkpoint, Any] | tuple[None, None]:
    """Loads a checkpoint, or if it is damaged or missing, the newest intact one of its trial before it.

    Returns:
        The checkpoint that was loaded, and its state; None twice if there is none.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    try:
        return newest, load(storage, newest)
    except (NotFound, Corrupt) as error:
        log.warning("%s", error)
    for older in reversed(verified(storage, owner(newest.key))):
        if older.iteration < newest.iteration:
            return older, load(storage, older)
    return None, None


def looks_whole(storage: Storage, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint has its marker and the right size; the bytes are not read, so `load` may still refuse it.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    try:
        size = storage.size(f"{checkpoint.key}/{STATE}")
    except NotFound:
        return False
    return size == checkpoint.size and storage.exists(f"{checkpoint.key}/{MARKER}")


def delete(storage: Storage, key: str) -> None:
    """Deletes a checkpoint, its marker first, so that an interrupted deletion leaves no valid checkpoint.

    Which ones may go is decided in `loop.recorder`.

    Raises:
        StorageError: the storage refused.
    """
    storage.delete(f"{key}/{MARKER}")
    storage.delete_tree(key)


def notes(storage: Storage, trial: str, exclude: Container[str] = ()) -> list[tuple[Checkpoint, dict[str, Any]]]:
    """The checkpoints of a trial that look whole and have a note, with their notes.

    Args:
        storage: the sweep's own folder or prefix.
        trial: the trial's id.
        exclude: keys of checkpoints to leave out; they are not read.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    checkpoints = []
    for marker in storage.list(f"checkpoints/{trial}"):
        key = marker.removesuffix(f"/{MARKER}")
        if key != marker and key not in exclude:
            with contextlib.suppress(NotFound, Corrupt):
                saved, note = _read_marker(storage, key)
                if isinstance(note, dict) and note and looks_whole(storage, saved):
                    checkpoints.append((saved, note))
    return checkpoints


def verified(storage: Storage, trial: str) -> list[Checkpoint]:
    """The valid checkpoints of a trial, oldest iteration first; reads all of their bytes.

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
    return sorted(complete, key=lambda checkpoint: checkpoint.iteration)


@retry(
    retry=retry_if_exception_type((Corrupt, NotFound)),
    stop=stop_after_attempt(WRITES),
    wait=wait_random_exponential(max=5),
    reraise=True,
)
def _put_verified(storage: Storage, key: str, data: bytes) -> None:
    storage.put(key, data)
    if storage.get(key) != data:
        raise Corrupt(
            f"{storage.url}/{key}: the storage does not give back what was written: check its disk and its log"
        )


def _read(storage: Storage, key: str) -> tuple[Checkpoint, bytes]:
    checkpoint, _ = _read_marker(storage, key)
    data = storage.get(f"{key}/{STATE}")
    if (len(data), hashlib.sha256(data).hexdigest()) != (checkpoint.size, checkpoint.sha256):
        raise Corrupt(
            f"{storage.url}/{key}: the {len(data)} stored bytes are not those that were saved: use an older checkpoint"
        )
    return checkpoint, data


def _read_marker(storage: Storage, key: str) -> tuple[Checkpoint, Any]:
    where = f"{storage.url}/{key}/{MARKER}"
    try:
        marker = json.loads(storage.get(f"{key}/{MARKER}"))
        if marker["format"] == FORMAT:
            return Checkpoint.from_dict({**marker, "key": key}), marker.get("note")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise Corrupt(f"{where}: the marker cannot be read: use an older checkpoint") from error
    raise Corrupt(f"{where}: format {marker['format']} is unknown: use the version of raysweep that wrote it")
