"""Uploads a project's code as one object, which Ray downloads for a job and its trials."""

from __future__ import annotations

import hashlib
from pathlib import Path

from raysweep import ray_private, temporary
from raysweep.storage import Storage

NEVER_PACKED = ("/.raysweep/", "/runs/", "/.git/", "/.venv/")  # in addition to .rayignore


def upload(project: Path, place: Storage) -> str:
    """Packs a folder as `ray job submit --working-dir` does, and stores it as `code/<hash>.zip`; returns its URL."""
    with temporary.folder("code") as folder:
        package = folder / "code.zip"
        ray_private.pack(project, package, list(NEVER_PACKED))
        data = package.read_bytes()
    key = f"code/{hashlib.sha256(data).hexdigest()[:16]}.zip"
    place.put(key, data)
    return f"{place.url}/{key}"
