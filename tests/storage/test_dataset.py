"""Data sets: from a folder as it is, from S3 through a folder that is gone afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysweep.errors import BadInput
from raysweep.storage import dataset
from tests.s3 import S3Server, use


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "set" / "raw").mkdir(parents=True)
    (tmp_path / "set" / "train.bin").write_bytes(b"pixels")
    (tmp_path / "set" / "raw" / "labels.bin").write_bytes(b"labels")
    return tmp_path / "set"


@pytest.mark.parametrize("data", [None, "some/folder"])
def test_a_folder_is_read_where_it_is(data: str | None) -> None:
    with dataset.folder(data) as found:
        assert found == (Path(data) if data else None)


def test_what_was_uploaded_to_s3_is_read_back_as_a_folder(
    source: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(s3_server, monkeypatch)
    place = f"{s3_server.new_bucket()}/data/set"
    assert dataset.upload(source, place) == ["raw/labels.bin", "train.bin"]
    with dataset.folder(place) as found:
        assert found is not None
        assert (found / "train.bin").read_bytes() == b"pixels"
        assert (found / "raw" / "labels.bin").read_bytes() == b"labels"
    assert not found.exists()


def test_an_empty_prefix_is_named(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use(s3_server, monkeypatch)
    place = f"{s3_server.new_bucket()}/data/nothing"
    with pytest.raises(BadInput, match=rf"`--data {place}`: nothing is stored there"), dataset.folder(place):
        pass


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="must be a folder with files"):
        dataset.upload(tmp_path / "missing", str(tmp_path / "there"))
