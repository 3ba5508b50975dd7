"""The marker of a checkpoint, the object that is written last: what the checkpoint consists of.

Its format says what that is: a pickled state (1), or the files of a folder (2).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from raysweep.errors import Corrupt, NotFound
from raysweep.storage import Storage
from raysweep.storage.files import Digest
from raysweep.values import plain

STATE_FORMAT, FOLDER_FORMAT = 1, 2
WRITES = 5  # attempts, if the storage accepts an object but does not give it back intact
MARKER = "complete.json"

# What a storage accepted and does not give back is written again.
_writes_again = retry(
    retry=retry_if_exception_type((Corrupt, NotFound)),
    stop=stop_after_attempt(WRITES),
    wait=wait_random_exponential(max=5),
    reraise=True,
)


@dataclass(frozen=True)
class Checkpoint:
    """Identifies a verified checkpoint.

    Attributes:
        key: the checkpoint's folder in the sweep's storage.
        iteration: the trial's iteration after which it was saved, from 1.
        size: of the pickled state or of all files, in bytes.
        sha256: of the pickled state, or of the list of files with their hashes, in hex.
        folder: whether it holds the files of a folder, and not a pickled state.
    """

    key: str
    iteration: int
    size: int
    sha256: str
    folder: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The fields, as the journal stores them; a pickled state has those of before there were folders."""
        return {name: value for name, value in asdict(self).items() if name != "folder" or value}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Checkpoint:
        """The inverse of `to_dict`; ignores other keys."""
        folder = bool(fields.get("folder", False))
        return cls(fields["key"], int(fields["iteration"]), int(fields["size"]), fields["sha256"], folder)


@dataclass(frozen=True)
class Tree:
    """What a folder holds, by paths relative to it, with slashes.

    Attributes:
        files: what is in each file.
        links: what each symbolic link points to, relative to the folder that the link is in.
        folders: those with nothing in them.
    """

    files: dict[str, Digest] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Of all files, in bytes."""
        return sum(each.size for each in self.files.values())

    @property
    def sha256(self) -> str:
        """Differs if anything does."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """As the marker has it."""
        files = [{"path": path, **each._asdict()} for path, each in sorted(self.files.items())]
        return {"files": files, "links": dict(self.links), "folders": list(self.folders)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Tree:
        """The inverse of `to_dict`."""
        files = {each["path"]: Digest(int(each["size"]), each["sha256"], each["head"]) for each in fields["files"]}
        return cls(files, dict(fields["links"]), tuple(fields["folders"]))


@dataclass(frozen=True)
class Marker:
    """What a marker says.

    Attributes:
        checkpoint: whose it is.
        note: what the trial noted with it.
        tree: the files of a checkpoint that is a folder.
    """

    checkpoint: Checkpoint
    note: Any = None
    tree: Tree | None = None


def write(storage: Storage, marker: Marker) -> None:
    """Writes a marker and reads it back: from now on there is the checkpoint.

    Raises:
        StorageError: the storage refused, or does not give it back intact.
    """
    saved = marker.checkpoint
    fields = {"iteration": saved.iteration, "size": saved.size, "sha256": saved.sha256, "note": marker.note}
    if marker.tree is None:
        fields |= {"format": STATE_FORMAT}
    else:
        fields |= {"format": FOLDER_FORMAT, **marker.tree.to_dict()}
    put_verified(storage, f"{saved.key}/{MARKER}", json.dumps(fields, default=plain).encode())


def read(storage: Storage, key: str) -> Marker:
    """The marker of the checkpoint with this key.

    Raises:
        NotFound: there is none.
        Corrupt: it is damaged, or of a later version.
    """
    where = f"{storage.url}/{key}/{MARKER}"
    try:
        fields = json.loads(storage.get(f"{key}/{MARKER}"))
        number = fields["format"]
        if number in (STATE_FORMAT, FOLDER_FORMAT):
            saved = Checkpoint.from_dict({**fields, "key": key, "folder": number == FOLDER_FORMAT})
            tree = Tree.from_dict(fields) if saved.folder else None
            if tree is not None and (tree.size, tree.sha256) != (saved.size, saved.sha256):
                raise ValueError("the list of files is another one")
            return Marker(saved, fields.get("note"), tree)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, AttributeError) as error:
        raise Corrupt(f"{where}: the marker cannot be read: use an older checkpoint") from error
    raise Corrupt(f"{where}: format {number} is unknown: use the version of raysweep that wrote it")


@_writes_again
def put_verified(storage: Storage, key: str, data: bytes) -> None:
    """Writes an object and reads it back.

    Raises:
        StorageError: the storage refused, or does not give it back intact.
    """
    storage.put(key, data)
    if storage.get(key) != data:
        raise _damaged(storage, key)


@_writes_again
def put_file_verified(storage: Storage, key: str, file: IO[bytes]) -> Digest:
    """Writes an object from a file and reads it back; returns what was read from the file.

    Raises:
        RuntimeError: the file cannot be read.
        StorageError: the storage refused, or does not give it back intact.
    """
    sent = storage.put_file(key, file)
    if storage.get_file(key) != sent:
        raise _damaged(storage, key)
    return sent


def _damaged(storage: Storage, key: str) -> Corrupt:
    where = f"{storage.url}/{key}"
    return Corrupt(f"{where}: the storage does not give back what was written: check its disk and its log")
