"""Verified checkpoints: a checkpoint is valid only if its marker, written last, matches its bytes.

Ray's own upload to S3 reports success even if the store refuses a part, so here a checkpoint is written, read back
and compared before it is reported. A checkpoint is a folder with a pickled state or the files of a folder, and the
marker:

    checkpoints/<trial>/<iteration>-<hash>/state.pkl        the pickled state
    checkpoints/<trial>/<iteration>-<random>/files/<path>   the files of a folder, as they are
    checkpoints/<trial>/…/complete.json                     size, sha256 and iteration; the files; a note

Loading unpickles, which executes code: whoever can write to the storage can run code in the trials.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import pickle
import tempfile
import uuid
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import IO, Any

from ray import cloudpickle

from raysweep.errors import BadInput, Corrupt, NotFound, StorageError, Unavailable
from raysweep.history import checkpoint_folder, marker
from raysweep.history.marker import MARKER, Marker, put_file_verified, put_verified
from raysweep.history.marker import Checkpoint as Checkpoint  # this module is where others look for it
from raysweep.storage import Storage
from raysweep.storage.files import Digest, HashingWriter

log = logging.getLogger(__name__)

STATE, FILES = "state.pkl", "files"
LARGE = 2**23  # bytes of a pickled state, beyond which it goes through a file


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
    # A large state is not held a second time in memory, but in a file without a name.
    with tempfile.SpooledTemporaryFile() as file:
        pickled = _Pickled(file)
        cloudpickle.dump(state, pickled, protocol=5)
        size, sha256, _ = pickled.digest
        saved = Checkpoint(f"checkpoints/{trial}/{iteration:06d}-{sha256[:8]}", iteration, size, sha256)
        if size <= LARGE:
            file.seek(0)
            put_verified(storage, f"{saved.key}/{STATE}", file.read())
        else:
            put_file_verified(storage, f"{saved.key}/{STATE}", file)
    marker.write(storage, Marker(saved, note))
    return saved


class _Pickled(HashingWriter):
    """What is pickled: in memory up to LARGE bytes, then on the disk; one large piece goes there at once."""

    def __init__(self, file: tempfile.SpooledTemporaryFile[bytes]) -> None:
        super().__init__(file)
        self._spool = file

    def write(self, data: bytes | memoryview | pickle.PickleBuffer) -> int:
        """Appends bytes, or those of an array, which are not copied."""
        piece = data.raw() if isinstance(data, pickle.PickleBuffer) else data
        if self.size + len(piece) > LARGE:
            self._spool.rollover()
        return super().write(piece)


def save_folder(
    storage: Storage,
    trial: str,
    iteration: int,
    folder: Path,
    note: dict[str, Any] | None = None,
    before: Checkpoint | None = None,
) -> Checkpoint:
    """Writes the files of a folder, reads them back, and only then marks them as complete.

    Args:
        storage: the sweep's own folder or prefix.
        trial: the trial's id.
        iteration: the trial's iteration, from 1.
        folder: what is saved; see `checkpoint_folder` for what of it.
        note: more fields for the marker; `notes` reads them.
        before: a checkpoint that is likely to have some of the same files: they are not sent again.

    Raises:
        ValueError, RuntimeError: the folder cannot be saved, or changed meanwhile, by name.
        StorageError: the storage refused, or does not give a file back intact; there is no valid checkpoint.
    """
    key = f"checkpoints/{trial}/{iteration:06d}-{uuid.uuid4().hex[:8]}"  # its hash is known when all has been sent
    try:
        tree = checkpoint_folder.send(storage, folder, f"{key}/{FILES}", _stored(storage, before))
        saved = Checkpoint(key, iteration, tree.size, tree.sha256, folder=True)
        marker.write(storage, Marker(saved, note, tree))
    except Unavailable:  # it has been waited for; `drop_unfinished` deletes the rest
        raise
    except BaseException:
        with contextlib.suppress(StorageError):
            delete(storage, key)
        raise
    return saved


def _stored(storage: Storage, before: Checkpoint | None) -> dict[Digest, str]:
    """The keys of a checkpoint's files, by what is in them."""
    with contextlib.suppress(NotFound, Corrupt):
        if before and before.folder and (tree := marker.read(storage, before.key).tree):
            return {digest: f"{before.key}/{FILES}/{path}" for path, digest in tree.files.items()}
    return {}


def owner(key: str) -> str:
    """The trial that saved the checkpoint under this key."""
    return key.split("/")[1]


def load(storage: Storage, checkpoint: Checkpoint | str, folder: Callable[[], Path] | None = None) -> Any:
    """The state of a checkpoint, or of the checkpoint with this key.

    Args:
        storage: the sweep's own folder or prefix.
        checkpoint: the checkpoint, or its key.
        folder: makes way for a new folder; called for a checkpoint that is one, whose files are put there.

    Returns:
        The state, or the path of the folder.

    Raises:
        NotFound: there is no marker or no state: the checkpoint was never completed, or was deleted.
        Corrupt: the state is not what was saved.
        BadInput: the checkpoint is a folder, and none is given for its files.
    """
    key = checkpoint if isinstance(checkpoint, str) else checkpoint.key
    stored = marker.read(storage, key)
    if not isinstance(checkpoint, str) and stored.checkpoint != checkpoint:
        raise Corrupt(f"{storage.url}/{key}: another checkpoint is stored there than was reported: use an older one")
    if stored.tree is None:
        with _opened(storage, stored.checkpoint) as file:
            return _Unpickler(file).load()
    if folder is None:
        raise BadInput(f"checkpoint `{key}` is a folder of files: say where to put them: load(folder=…)")
    into = folder()
    checkpoint_folder.fetch(storage, f"{key}/{FILES}", stored.tree, into)
    return into


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


def load_newest(
    storage: Storage, newest: Checkpoint, folder: Callable[[], Path] | None = None
) -> tuple[Checkpoint, Any] | tuple[None, None]:
    """Loads a checkpoint as `load` does, or if it is damaged or missing, the newest intact one of its trial before it.

    Returns:
        The checkpoint that was loaded, and its state; None twice if there is none.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    try:
        return newest, load(storage, newest, folder)
    except (NotFound, Corrupt) as error:
        log.warning("%s", error)
    for older in reversed(verified(storage, owner(newest.key))):
        if older.iteration < newest.iteration:
            return older, load(storage, older, folder)
    return None, None


def looks_whole(storage: Storage, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint has its marker and the right sizes; the bytes are not read, so `load` may still refuse it.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    try:
        stored = marker.read(storage, checkpoint.key)
        return stored.checkpoint == checkpoint and _has_all(storage, stored)
    except (NotFound, Corrupt):
        return False


def _has_all(storage: Storage, stored: Marker) -> bool:
    saved = stored.checkpoint
    if stored.tree is not None:
        return checkpoint_folder.has_all(storage, f"{saved.key}/{FILES}", stored.tree)
    return storage.size(f"{saved.key}/{STATE}") == saved.size


def delete(storage: Storage, key: str) -> None:
    """Deletes a checkpoint, its marker first, so that an interrupted deletion leaves no valid checkpoint.

    Which ones may go is decided in `loop.recorder`.

    Raises:
        StorageError: the storage refused.
    """
    storage.delete(f"{key}/{MARKER}")
    storage.delete_tree(key)


def drop_unfinished(storage: Storage, trial: str) -> None:
    """Deletes what a process left that was killed while it saved: files without a marker.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    for key in _keys(storage, trial):
        if not storage.exists(f"{key}/{MARKER}"):
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
    for key in _keys(storage, trial):
        if key not in exclude:
            with contextlib.suppress(NotFound, Corrupt):
                stored = marker.read(storage, key)
                if isinstance(stored.note, dict) and stored.note and _has_all(storage, stored):
                    checkpoints.append((stored.checkpoint, stored.note))
    return checkpoints


def verified(storage: Storage, trial: str) -> list[Checkpoint]:
    """The valid checkpoints of a trial, oldest iteration first; reads all of their bytes.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    complete = []
    for key in _keys(storage, trial):
        with contextlib.suppress(NotFound, Corrupt):
            stored = marker.read(storage, key)
            if stored.tree is None:
                _check(storage, stored.checkpoint, *storage.get_file(f"{key}/{STATE}")[:2])
            else:
                checkpoint_folder.verify(storage, f"{key}/{FILES}", stored.tree)
            complete.append(stored.checkpoint)
    return sorted(complete, key=lambda checkpoint: checkpoint.iteration)


def _keys(storage: Storage, trial: str) -> list[str]:
    """The keys of a trial's checkpoints, complete or not."""
    place = f"checkpoints/{trial}"
    return [f"{place}/{name}" for name in storage.child(place).folders()]


@contextlib.contextmanager
def _opened(storage: Storage, checkpoint: Checkpoint) -> Iterator[IO[bytes]]:
    """The pickled state of a checkpoint, verified; a large one is not held a second time in memory."""
    key = f"{checkpoint.key}/{STATE}"
    if checkpoint.size <= LARGE:
        data = storage.get(key)
        _check(storage, checkpoint, len(data), hashlib.sha256(data).hexdigest())
        yield io.BytesIO(data)
        return
    with tempfile.TemporaryFile() as file:
        _check(storage, checkpoint, *storage.get_file(key, file)[:2])
        file.seek(0)
        yield file


def _check(storage: Storage, saved: Checkpoint, size: int, sha256: str) -> None:
    if (size, sha256) != (saved.size, saved.sha256):
        raise Corrupt(
            f"{storage.url}/{saved.key}: the {size} stored bytes are not those that were saved: use an older checkpoint"
        )
