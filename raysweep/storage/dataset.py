"""A task's data: in a folder of the driver's machine, or under a prefix of an S3 store.

The driver reads them once per sweep; trials get them from Ray's object store, whichever node they run on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from raysweep import temporary
from raysweep.errors import BadInput
from raysweep.storage import open_storage
from raysweep.storage.base import Keys
from raysweep.storage.files import in_parallel


@contextlib.contextmanager
def folder(data: str | None) -> Iterator[Path | None]:
    """The folder that `load_data` reads; data in S3 are downloaded to a temporary one, deleted when the context ends.

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
        raise BadInput(f"`--data {data}`: nothing is stored there: upload a data set with `raysweep upload FOLDER`")
    with temporary.folder("data") as own:
        scratch = own / "data"  # `load_data` may take every file that it finds
        scratch.mkdir()

        def fetch(key: str) -> None:
            path = scratch / key
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                place.get_file(key, file)

        in_parallel(fetch, keys)
        yield scratch


def upload(source: Path, destination: str) -> Keys:
    """Copies the files of a folder and its subfolders into a storage; returns their keys.

    Raises:
        BadInput: `source` is not a folder, or has no files.
        StorageError: the storage refused, or is not reachable.
    """
    files = sorted(path for path in source.rglob("*") if path.is_file())
    if not files:
        raise BadInput(f"`{source}`: must be a folder with files")
    place = open_storage(destination)
    keys = [path.relative_to(source).as_posix() for path in files]

    def send(path: Path) -> None:
        with path.open("rb") as file:
            place.put_file(path.relative_to(source).as_posix(), file)

    in_parallel(send, files)
    return keys
