"""Bytes that are appended to a storage that cannot append."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysweep.errors import StorageError
from raysweep.storage import append_log, open_storage
from raysweep.storage.append_log import AppendLog


def test_a_full_object_is_left_and_another_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_log, "PART_BYTES", 4)
    place = open_storage(str(tmp_path))
    written = AppendLog(place)
    for key in "abcd":
        written.append(key.encode() * 2, key)
    assert {key: place.get(key) for key in place.list()} == {"a": b"aabb", "c": b"ccdd"}


def test_what_was_refused_was_not_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_storage(str(tmp_path))
    written = AppendLog(place)
    written.append(b"1", "a")

    def refuse(*_: object) -> None:
        raise StorageError("away")

    with monkeypatch.context() as refusing:
        refusing.setattr(type(place), "put", refuse)
        with pytest.raises(StorageError):
            written.append(b"2", "b")
    written.append(b"2", "b")
    assert {key: place.get(key) for key in place.list()} == {"a": b"12"}
