"""The target aws says what it starts and asks first; `ray` itself is not run, there is no cloud here."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import pytest

from raysweep.clusters import aws, security_group, vm_config
from raysweep.clusters.targets import Options
from raysweep.errors import BadInput

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "cluster.yaml", tmp_path)
    return tmp_path


def start(project: Path, records: list) -> None:
    aws.Aws().start(project, project / "token", Options(dashboard_port=23456), records.append)


def test_it_shows_what_it_will_start_and_a_no_starts_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(click, "confirm", lambda *_, **__: False)
    monkeypatch.setattr(aws, "_ray", lambda *_: pytest.fail("started"))
    records: list = []
    with pytest.raises(BadInput, match="not started"):
        start(project, records)
    shown = capsys.readouterr().out
    assert "m7i.xlarge     on demand  1 now" in shown
    assert "g6.2xlarge     spot       0 now, up to 4" in shown
    assert "reached from 203.0.113.7/32 only" in shown
    assert records == []


def test_a_wrong_file_is_refused_before_it_asks(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click, "confirm", lambda *_, **__: pytest.fail("asked"))
    file = project / "cluster.yaml"
    file.write_text(file.read_text().replace("ImageId:", "ImageID:"))
    with pytest.raises(BadInput, match="ImageID"):
        start(project, [])


def test_a_project_without_the_file_is_told_which_to_copy(project: Path) -> None:
    (project / "cluster.yaml").unlink()
    with pytest.raises(BadInput, match=rf"there is no {project}/cluster\.yaml: copy {ROOT}/cluster\.yaml there"):
        start(project, [])


def test_it_is_recorded_before_ray_up_begins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records: list = []

    def ray(*arguments: str) -> None:
        assert arguments == ("up", "--yes", "--no-config-cache", str(project / "cluster.yaml"))
        assert records

    monkeypatch.setattr(click, "confirm", lambda *_, **__: True)
    monkeypatch.setattr(aws, "_ray", ray)
    monkeypatch.setattr(security_group, "hold", lambda _: None)
    monkeypatch.setattr(aws, "_tunnel", lambda _: None)
    start(project, records)
    assert records[-1].storage == "s3://raysweep-111122223333/sweeps"


def test_without_storage_it_is_refused() -> None:
    with pytest.raises(BadInput, match="RAYSWEEP_STORAGE"):
        vm_config.storage({"docker": {"run_options": []}})
