"""The log of a job is found in the storage, by the job's id and by its sweep's name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raysweep.errors import BadInput
from raysweep.storage import open_storage
from raysweep.submit import log_to_storage, ray_jobs, stored_log


def save(folder: Path, sweep: str, job: str, text: str, code: int | None = 0, begun: str = "20260101T000000") -> None:
    place = open_storage(str(folder / stored_log.folder_of(sweep, job)))
    end = "" if code is None else f"exit code {code}\n"
    place.put(f"{begun}.000000000000.log", f"{text}\n{end}".encode())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sweeps: one with three jobs, of which one had two lives; what a trial has printed is there, too."""
    save(tmp_path, "first", "asha-first-aaaaaa", "of the first", 0, "20260101T000000")
    save(tmp_path, "first", "asha-first-cccccc", "in its first life", None, "20260103T000000")
    save(tmp_path, "first", "asha-first-cccccc-life2", "in its second life", 3, "20260104T000000")
    save(tmp_path, "first", "asha-first-bbbbbb", "of the second", 1, "20260102T000000")
    save(tmp_path, "first, again", "asha-first--again-dddddd", "of another sweep", None)
    open_storage(str(tmp_path)).put("first/logs/00000.txt", b"of a trial\n")
    open_storage(str(tmp_path)).put("first/logs/00000/2.txt", b"of a trial\n")
    return tmp_path


LIVES = "in its first life\nin its second life\nexit code 3\n"


@pytest.mark.parametrize(
    ("asked", "text", "code"),
    [
        ("first", LIVES, 3),
        ("asha-first-cccccc", LIVES, 3),
        ("asha-first-cccccc-life2", LIVES, 3),
        ("asha-first-aaaaaa", "of the first\nexit code 0\n", 0),
        ("asha-first-bbbbbb", "of the second\nexit code 1\n", 1),
        ("first, again", "of another sweep\n", None),
        ("asha-first--again-dddddd", "of another sweep\n", None),
    ],
)
def test_a_log_by_the_name_of_a_sweep_or_of_a_job(folder: Path, asked: str, text: str, code: int | None) -> None:
    log = stored_log.find(asked, str(folder))
    assert log is not None
    assert ("".join(log.parts()), log.exit_code()) == (text, code)


@pytest.mark.parametrize("asked", ["second", "asha-first-ffffff", "aaaaaa", "asha-first", "00000"])
def test_there_is_none(folder: Path, asked: str) -> None:
    assert stored_log.find(asked, str(folder)) is None
    with pytest.raises(BadInput, match=f"there is no log of a job `{asked}` in {folder}: "):
        ray_jobs.stored_logs(asked, str(folder))


@pytest.mark.parametrize(
    ("asked", "follow", "code"), [("first", True, 3), ("first", False, 0), ("first, again", True, 1)]
)
def test_it_says_whose_log_it_prints(
    folder: Path, asked: str, follow: bool, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ray_jobs.stored_logs(asked, str(folder), follow) == code
    told, said = capsys.readouterr()
    if asked == "first":
        assert told == LIVES
        others = "it has others, too: asha-first-bbbbbb, asha-first-aaaaaa"
        assert said == f"the log of asha-first-cccccc, as it was saved in {folder}/first; {others}\n"
    else:
        assert "has no end: it runs on, or was lost with its cluster" in said


def test_the_storage_is_only_asked_if_there_is_no_cluster(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], without_cluster: Path
) -> None:
    monkeypatch.setenv("RAYSWEEP_STORAGE", str(folder))
    assert ray_jobs.logs(without_cluster, "asha-first-bbbbbb", follow=True) == 1
    told, said = capsys.readouterr()
    assert told == "of the second\nexit code 1\n"
    assert said.startswith("no cluster is running: start one with `raysweep cluster up`, or set ")
    with pytest.raises(BadInput, match="no cluster is running"):
        ray_jobs.logs(without_cluster, "unknown")


@pytest.fixture
def without_cluster(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path_factory.mktemp("project")


def test_what_a_wrapped_command_prints_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running_in: Callable[[str], int]
) -> None:
    """By the way of a job whose flags name no storage: that of its environment."""
    monkeypatch.setenv("RAYSWEEP_STORAGE", str(tmp_path))
    assert running_in(stored_log.folder_of("first", "asha-first-aaaaaa-life2")) == 4
    log = stored_log.find("asha-first-aaaaaa", str(tmp_path))
    assert log is not None
    assert "".join(log.parts()) == "printed\nexit code 4\n"


def test_without_a_storage_in_the_environment_nothing_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running_in: Callable[[str], int]
) -> None:
    monkeypatch.delenv("RAYSWEEP_STORAGE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert running_in("first/logs/a") == 4
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def running_in() -> Callable[[str], int]:
    command = [sys.executable, "-c", "print('printed', end='', flush=True); raise SystemExit(4)"]
    return lambda argument: log_to_storage.run(command, lambda: log_to_storage.place_of(argument))
