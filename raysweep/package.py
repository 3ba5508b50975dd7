"""A project's code as one object of a storage, from which Ray gives it to a job and its trials."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

from raysweep.storage import Storage

NEVER_PACKED = ("/.raysweep/", "/runs/", "/.git/", "/.venv/")  # whatever .rayignore says


def upload(project: Path, place: Storage) -> str:
    """Packs a folder as `ray job submit --working-dir` would, into `code/`, named by its content; returns its URL."""
    from ray._private.runtime_env.packaging import create_package

    with tempfile.TemporaryDirectory(prefix="raysweep-code-") as folder, _quiet():
        package = Path(folder) / "code.zip"
        create_package(str(project), package, True, include_parent_dir=True, excludes=list(NEVER_PACKED), logger=None)
        data = package.read_bytes()
    key = f"code/{hashlib.sha256(data).hexdigest()[:16]}.zip"
    place.put(key, data)
    return f"{place.url}/{key}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What Ray packs and where is not for the reader of a job's log."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
