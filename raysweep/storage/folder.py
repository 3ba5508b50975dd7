"""Storage in a folder."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from raysweep.storage.base import Keys, Storage
from raysweep.storage.files import CHUNK, Digest, HashingReader, HashingWriter

TEMPORARY = re.compile(r"\..*\.tmp")


class FolderStorage(Storage):
    """A folder: local, or on a file system that all nodes share."""

    def put(self, key: str, data: bytes) -> None:
        with self._errors(key, writing=True), self._temporary_file(key, io.BytesIO(data)) as temporary:
            temporary.replace(self.local_path(key))

    def put_file(self, key: str, source: IO[bytes]) -> Digest:
        reader = HashingReader(source)
        with self._errors(key, writing=True), self._temporary_file(key, reader) as temporary:
            temporary.replace(self.local_path(key))
        return reader.digest

    def create(self, key: str, data: bytes) -> bool:
        with self._errors(key, writing=True), self._temporary_file(key, io.BytesIO(data)) as temporary:
            try:
                self.local_path(key).hardlink_to(temporary)  # atomic on NFS too; O_EXCL is not on old versions
            except FileExistsError:
                return False
            return True

    @contextlib.contextmanager
    def _temporary_file(self, key: str, source: io.BytesIO | HashingReader) -> Iterator[Path]:
        """What can be read from the source, in a temporary file in the same folder, synced to the disk."""
        temporary = self._temporary_path(key)
        try:
            with temporary.open("xb") as file:
                shutil.copyfileobj(source, file, CHUNK)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _temporary_path(self, key: str) -> Path:
        path = self.local_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.with_name(f".{uuid.uuid4().hex}.tmp")  # short: the name itself may be as long as can be

    def get(self, key: str) -> bytes:
        with self._errors(key):
            return self.local_path(key).read_bytes()

    def get_from(self, key: str, start: int) -> bytes:
        with self._errors(key), self.local_path(key).open("rb") as file:
            file.seek(start)
            return file.read()

    def get_file(self, key: str, target: IO[bytes] | None = None) -> Digest:
        writer = HashingWriter(target)
        with self._errors(key), self.local_path(key).open("rb") as file:
            shutil.copyfileobj(file, writer, CHUNK)
        return writer.digest

    def copy(self, source: str, key: str) -> None:
        """A second name of the same file, which `put` replaces and nothing ever changes; else a copy."""
        with self._errors(source):
            temporary = self._temporary_path(key)
            try:
                try:
                    temporary.hardlink_to(self.local_path(source))
                except FileNotFoundError:
                    raise
                except OSError:  # a file system without links, or a file with as many as it can have
                    shutil.copyfile(self.local_path(source), temporary)
                temporary.replace(self.local_path(key))
            finally:
                temporary.unlink(missing_ok=True)

    def size(self, key: str) -> int:
        # Opening it fails for a folder, which is not an object.
        with self._errors(key), self.local_path(key).open("rb") as file:
            return os.fstat(file.fileno()).st_size

    def list(self, prefix: str = "") -> Keys:
        return sorted(key for key, path in self._files(prefix) if not TEMPORARY.fullmatch(path.name))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        with self._errors(prefix):
            return dict(self._sized(prefix))

    def _sized(self, prefix: str) -> Iterator[tuple[str, int]]:
        for key, path in self._files(prefix):
            with contextlib.suppress(FileNotFoundError):  # of a running sweep, files come and go
                yield key, path.stat().st_size

    def _files(self, prefix: str) -> Iterator[tuple[str, Path]]:
        """All files, temporary ones too, with their keys."""
        with self._errors(prefix), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for folder, _, names in os.walk(self.local_path(prefix), onerror=_raise):
                relative = Path(folder).relative_to(self.url)
                yield from (((relative / name).as_posix(), Path(folder, name)) for name in names)

    def folders(self) -> Keys:
        with self._errors(""), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return sorted(entry.name for entry in os.scandir(self.url) if entry.is_dir())
        return []

    def delete(self, key: str) -> None:
        with self._errors(key), contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            self.local_path(key).unlink()

    def delete_tree(self, prefix: str) -> None:
        with self._errors(prefix), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            shutil.rmtree(self.local_path(prefix))

    def local_path(self, key: str) -> Path:
        return Path(self._at(key))

    def _names(self, error: Exception) -> tuple[str, ...]:
        return (errno.errorcode.get(error.errno or 0, "OSError"),) if isinstance(error, OSError) else ()


def _raise(error: OSError) -> None:
    raise error
