"""A sweep that is followed is what a whole reading of it says, and is read only once."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysweep.errors import BadInput
from raysweep.history import results
from raysweep.storage import FolderStorage
from raysweep.viewing.followed import Followed
from raysweep.viewing.tally import Tally
from tests.viewing.growing import Growing, complete, result, start, suggest


def test_what_is_appended_is_followed(tmp_path: Path) -> None:
    growing, tally = Growing(tmp_path), Tally()
    growing.append(start(), suggest(0))
    followed = Followed("mine", growing.storage, tally)
    assert not followed.update()
    for events in ([result(0, 1, 0.5)], [result(0, 2, 0.7), complete(0)]):
        growing.append(*events)
        assert followed.update()
    assert (tally.results, followed.sweep.state.trials["00000"].status) == (2, "finished")
    assert followed.sweep.state.seq == 5
    assert followed.sweep.state.events is None  # of a long sweep they are many


def test_the_whole_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growing = Growing(tmp_path)
    growing.append(start(), *(suggest(n, text="x" * 1000) for n in range(100)))
    followed = Followed("mine", growing.storage)
    read: list[int] = []
    get_from = FolderStorage.get_from

    def counted(place: FolderStorage, key: str, start: int) -> bytes:
        content = get_from(place, key, start)
        read.append(len(content))
        return content

    monkeypatch.setattr(FolderStorage, "get", lambda *_: pytest.fail("it is read as a whole"))
    monkeypatch.setattr(FolderStorage, "get_from", counted)
    for n in range(3):
        growing.append(result(n, 1, 0.5))
        assert followed.update()
        assert not followed.update()
    assert len(read) == 3
    assert max(read) < 300


def test_after_another_driver_everything_is_told_anew(tmp_path: Path) -> None:
    growing, tally = Growing(tmp_path), Tally()
    growing.append(start(), suggest(0), result(0, 1, 0.5))
    followed = Followed("mine", growing.storage, tally)
    growing.append(start(term=2, resumed=True), result(0, 2, 0.6), term=2)
    assert followed.update()
    assert (tally.results, tally.term) == (2, 2)
    assert tally.sweep is followed.sweep
    growing.append(result(0, 3, 0.7), term=2)
    followed.update()
    assert tally.results == 3
    whole = results.read("mine", growing.storage)
    assert [each.metrics for each in followed.sweep.state.trials["00000"].results.values()] == [
        each.metrics for each in whole.state.trials["00000"].results.values()
    ]


def test_damage_is_told_and_what_follows_it_is_followed(tmp_path: Path) -> None:
    growing = Growing(tmp_path)
    growing.append(start(), suggest(0))
    followed = Followed("mine", growing.storage)
    [key] = growing.place.list("journal")
    path = growing.place.local_path(key)
    path.write_bytes(path.read_bytes() + b"?\n")
    growing.seq += 1
    growing.append(result(0, 2, 0.6))
    assert followed.update()
    assert "line 3 is not as written, event 3 is lost" in followed.sweep.damage[0]
    assert followed.sweep.state.seq == 4
    growing.append(result(0, 3, 0.6))
    followed.update()
    assert followed.sweep.state.seq == 5


def test_an_unknown_sweep_is_refused_with_the_nearest(tmp_path: Path) -> None:
    growing = Growing(tmp_path)
    growing.append(start())
    with pytest.raises(BadInput, match=r"there is no sweep `mime` in .* \(did you mean `mine`\?\)"):
        Followed("mime", growing.storage)
