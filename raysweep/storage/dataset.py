"""Where a task's data are read from: a folder of the driver's machine, or a prefix of an S3 store.

The driver reads them once a sweep; trials get them from Ray's object store, on whatever node they run.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from raysweep.errors import BadInput
from raysweep.storage import open_storage
from raysweep.storage.base import Keys


@contextlib.contextmanager
def folder(data: str | None) -> Iterator[Path | None]:
    """The folder that `load_data` reads; what is in S3 is fetched into one that lasts as long as the context.

    Raises:
        BadInput: nothing is stored under that prefix.
        StorageError: the store refused, or is not reachable.
    """
    if data is None or not data.startswith("s3://"):
        yield Path(data) if data else None
        return
    place = open_storage(data)
    keys = place.list()
    if not keys:
        raise BadInput(f"`--data {data}`: nothing is stored there: `raysweep upload FOLDER` stores a data set")
    with tempfile.TemporaryDirectory(prefix="raysweep-data-") as scratch:
        for key in keys:
            path = Path(scratch) / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(place.get(key))
        yield Path(scratch)


def upload(source: Path, destination: str) -> Keys:
    """Copies the files of a folder and of those in it into a storage; returns their keys.

    Raises:
        BadInput: it is no folder, or has no files.
        StorageError: the storage refused, or is not reachable.
    """
    files = sorted(path for path in source.rglob("*") if path.is_file())
    if not files:
        raise BadInput(f"`{source}`: a folder with files is wanted")
    place = open_storage(destination)
    keys = [path.relative_to(source).as_posix() for path in files]
    for key, path in zip(keys, files, strict=True):
        place.put(key, path.read_bytes())
    return keys
