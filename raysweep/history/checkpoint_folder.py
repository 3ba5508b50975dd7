"""The files of a checkpoint that is a folder: from the folder into the storage, and back into another one.

Files keep their names and their contents; links are kept as links, and may not leave the folder; folders with nothing
in them are kept, too. Owners, modes and times are not. A file that the checkpoint before has as well is copied within
the storage instead of being sent: each checkpoint has all of its files, so that any of them may be deleted.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from raysweep.errors import Corrupt, StorageError, Unavailable
from raysweep.history.marker import Tree, put_file_verified
from raysweep.storage import Storage
from raysweep.storage.files import CHUNK, HEAD, Digest, HashingReader, in_parallel

Stamp = tuple[int, int, int]  # size, time of the last change, inode: of a file that stays as it is, they do


@dataclass
class _Listing:
    """What is in a folder, at one moment."""

    files: dict[str, Stamp] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)


def send(storage: Storage, folder: Path, key: str, before: dict[Digest, str] | None = None) -> Tree:
    """Sends a folder's files into a storage, several at a time, and reads each back.

    Args:
        storage: the sweep's own folder or prefix.
        folder: that is sent; nothing of it is needed any more when this returns.
        key: of the folder in the storage.
        before: the keys of files that the storage has already. They are copied there; of a copy, only the size is
            compared.

    Raises:
        ValueError: the folder has something that cannot be kept, by name.
        RuntimeError: a file changed, came or went meanwhile, by name.
        StorageError: the storage refused, or does not give a file back intact.
    """
    listing, before = _list(folder), before or {}
    heads = {(known.size, known.head) for known in before}

    def one(path: str) -> Digest:
        with (folder / path).open("rb") as file:
            if known := _known(file, heads, before):
                digest, source = known
                if _copied(storage, source, f"{key}/{path}", digest.size):
                    return digest
            return put_file_verified(storage, f"{key}/{path}", file)

    try:
        digests = in_parallel(one, listing.files)
    except FileNotFoundError:
        _check_unchanged(folder, listing, [])
        raise
    _check_unchanged(folder, listing, digests)
    return Tree(dict(zip(listing.files, digests, strict=True)), listing.links, tuple(listing.folders))


def _known(file: IO[bytes], heads: set[tuple[int, str]], before: dict[Digest, str]) -> tuple[Digest, str] | None:
    """What is in a file, and the key of it, if the storage has it already.

    The file is read for that: its time and size may be those of before, and its content not.
    """
    reader = HashingReader(file)
    reader.read(HEAD)
    if (reader.total, reader.digest.head) not in heads:
        return None
    while reader.read(CHUNK):
        pass
    return (reader.digest, before[reader.digest]) if reader.digest in before else None


def _copied(storage: Storage, source: str, key: str, size: int) -> bool:
    try:
        storage.copy(source, key)
        return storage.size(key) == size
    except Unavailable:
        raise
    except StorageError:  # it was deleted meanwhile, or the store cannot copy: the file is sent
        return False


def fetch(storage: Storage, key: str, tree: Tree, into: Path) -> None:
    """Puts the files of a checkpoint into a new folder, several at a time, each verified; all of them, or none.

    Raises:
        NotFound: a file is missing.
        Corrupt: a file is not what was saved.
        StorageError: the storage refused, or is not reachable.
    """

    def one(path: str) -> None:
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        with (into / path).open("xb") as file:
            _check(storage, f"{key}/{path}", tree.files[path], storage.get_file(f"{key}/{path}", file))

    into.mkdir(parents=True)
    try:
        for empty in tree.folders:
            (into / empty).mkdir(parents=True, exist_ok=True)
        in_parallel(one, tree.files)
        for link, target in tree.links.items():  # last: nothing is written through one
            (into / link).parent.mkdir(parents=True, exist_ok=True)
            (into / link).symlink_to(target)
    except BaseException:
        shutil.rmtree(into)
        raise


def verify(storage: Storage, key: str, tree: Tree) -> None:
    """Reads all files of a checkpoint; raises as `fetch` does."""
    in_parallel(
        lambda path: _check(storage, f"{key}/{path}", tree.files[path], storage.get_file(f"{key}/{path}")), tree.files
    )


def has_all(storage: Storage, key: str, tree: Tree) -> bool:
    """Whether all files are there, with their sizes; they are not read."""
    there = storage.sizes(key)
    return all(there.get(f"{key}/{path}") == each.size for path, each in tree.files.items())


def _check(storage: Storage, key: str, saved: Digest, found: Digest) -> None:
    if found != saved:
        raise Corrupt(
            f"{storage.url}/{key}: the {found.size} stored bytes are not those that were saved: use an older checkpoint"
        )


def _list(folder: Path) -> _Listing:
    if not folder.is_dir():
        raise ValueError(f"`checkpoint={folder}`: must be a folder: write the files there before report")
    listing = _Listing()
    for path, entry in _entries(folder.resolve()):
        _check_name(folder, path)
        if entry.is_symlink():
            listing.links[path] = _target(folder, path)
        elif entry.is_dir():
            if not any(Path(entry).iterdir()):
                listing.folders.append(path)
        else:
            found = entry.stat()
            if not stat.S_ISREG(found.st_mode):
                raise ValueError(f"`checkpoint={folder}`: `{path}` is neither a file, a folder nor a link: remove it")
            listing.files[path] = (found.st_size, found.st_mtime_ns, found.st_ino)
    return listing


def _entries(folder: Path, above: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All that is in a folder and below it, with its path; links are not followed."""
    with os.scandir(folder / above) as found:
        for entry in sorted(found, key=lambda each: each.name):
            path = f"{above}/{entry.name}" if above else entry.name
            yield path, entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(folder, path)


def _check_name(folder: Path, path: str) -> None:
    # Keys of S3 are UTF-8, and SeaweedFS lists a backslash as a slash: what it lists so could not be deleted.
    if "\\" in path or any("\ud800" <= character <= "\udfff" for character in path):
        raise ValueError(f"`checkpoint={folder}`: the name {path!r} has a backslash or is not UTF-8: rename it")


def _target(folder: Path, path: str) -> str:
    """What a link points to, relative to where it is."""
    root, link = folder.resolve(), folder.resolve() / path
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop, before Python 3.13
        raise ValueError(f"`checkpoint={folder}`: link `{path}` leads nowhere: remove it") from error
    if not target.is_relative_to(root):
        raise ValueError(
            f"`checkpoint={folder}`: link `{path}` leaves the folder, to {target}: put a copy of that into the folder"
        )
    return os.path.relpath(target, link.parent)


def _check_unchanged(folder: Path, before: _Listing, digests: list[Digest]) -> None:
    try:
        after = _list(folder)
    except (ValueError, FileNotFoundError):
        after = _Listing()
    names = {*before.files.items(), *before.links.items()} ^ {*after.files.items(), *after.links.items()}
    sizes = zip(before.files.items(), digests, strict=False)
    changed = {path for path, _ in names} | {path for (path, stamp), digest in sizes if digest.size != stamp[0]}
    if changed:
        shown = ", ".join(f"`{path}`" for path in sorted(changed)[:5])
        raise RuntimeError(
            f"`checkpoint={folder}`: {shown} changed while it was saved: finish writing before report, and change"
            " nothing until it returns"
        )
