"""What only a running driver knows, written and read back."""

from __future__ import annotations

import pytest

from raysweep.history import live
from raysweep.history.live import Live
from raysweep.loop.memory_storage import MemoryStorage


@pytest.mark.parametrize("left", [None, 12.5])
def test_it_is_read_as_it_was_written(left: float | None) -> None:
    place, told = MemoryStorage(), Live(3, 1000.5, 40, 8, 7, 1, 2, left)
    told.write(place)
    assert live.read(place) == told


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b"\xff"])
def test_what_is_not_there_or_cannot_be_read_is_nothing(content: bytes | None) -> None:
    place = MemoryStorage()
    if content is not None:
        place.put(live.NAME, content)
    assert live.read(place) is None


def test_what_a_later_version_adds_is_left_out() -> None:
    place = MemoryStorage()
    told = Live(1, 2.0, 3, 4, 5, 6, 7, 8.0)
    told.write(place)
    place.put(live.NAME, place.get(live.NAME)[:-1] + b', "more": 1}')
    assert live.read(place) == told
