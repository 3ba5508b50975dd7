"""Where a command finds its project, and the kit's own files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raysweep import kit

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one inside of another, not in anybody's home."""
    monkeypatch.setenv("HOME", "/nowhere/at/all")
    (tmp_path / "src" / "deep").mkdir(parents=True)
    return tmp_path


def checkout(folder: Path) -> None:
    for path in (folder / "jobs" / "asha.py", folder / "raysweep" / "__init__.py"):
        path.parent.mkdir()
        path.touch()


def test_without_a_mark_the_folder_itself_is_the_project(folder: Path) -> None:
    assert kit.project(folder / "src") == folder / "src"


@pytest.mark.parametrize("mark", kit.MARKS)
def test_the_nearest_folder_with_a_mark_is_the_project(folder: Path, mark: str) -> None:
    (folder / mark).mkdir()
    assert kit.project(folder) == folder
    assert kit.project(folder / "src" / "deep") == folder
    (folder / "src" / mark).mkdir()
    assert kit.project(folder / "src" / "deep") == folder / "src"


def test_a_checkout_needs_no_mark(folder: Path) -> None:
    checkout(folder)
    assert kit.is_checkout(folder)
    assert kit.project(folder / "src") == folder


def test_code_that_came_with_a_job_is_no_checkout(folder: Path) -> None:
    checkout(folder)
    (folder / "raysweep" / "jobs").mkdir()
    assert not kit.is_checkout(folder)


def test_a_home_is_the_project_of_nothing_inside_of_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".raysweep").mkdir()
    for home in (folder, folder / "src"):
        monkeypatch.setenv("HOME", str(home))
        assert kit.project(folder / "src" / "deep") == folder / "src" / "deep"
    assert kit.project(folder) == folder


def test_a_mark_of_another_user_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".raysweep").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: (folder / ".raysweep").stat().st_uid + 1)
    assert kit.project(folder / "src") == folder / "src"


def test_here_the_kits_files_are_beside_the_package() -> None:
    assert (kit.HOME, kit.PREFIX) == (ROOT, "")
    assert (kit.HOME / "docker" / "Dockerfile").exists()


def test_an_overlay_of_the_project_goes_before_the_kits(folder: Path) -> None:
    assert kit.overlay(folder, "kind") == ROOT / "k8s" / "overlays" / "kind"
    (folder / "k8s" / "overlays" / "kind").mkdir(parents=True)
    assert kit.overlay(folder, "kind") == folder / "k8s" / "overlays" / "kind"
