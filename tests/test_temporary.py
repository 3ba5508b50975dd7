"""Temporary folders and their owners: real processes, ended and killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raysweep import env, temporary
from raysweep.clusters import local
from raysweep.clusters.targets import Options

ROOT = Path(__file__).parents[1]
HOLDS = "import sys; from raysweep import temporary; print(temporary.make('test'), flush=True); {then}"
WAITS = "sys.stdin.read()"
FORKS = "import os; os.fork() or (os.setsid(), print(os.getpid(), flush=True)); sys.stdin.read()"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is the system's temporary directory in this test."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setenv(env.TMPDIR, str(place))
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


Holder = Callable[[str], tuple[subprocess.Popen[str], Path]]


@pytest.fixture
def holder() -> Iterator[Holder]:
    """Starts a process that makes a folder; returns both."""
    started: list[subprocess.Popen[str]] = []

    def start(then: str = WAITS) -> tuple[subprocess.Popen[str], Path]:
        command = [sys.executable, "-c", HOLDS.format(then=then)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True))
        assert started[-1].stdout is not None
        return started[-1], Path(started[-1].stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def make_one() -> None:
    """What the next process does."""
    temporary.remove(temporary.make("test"))


def test_a_folder_goes_with_its_context(scratch: Path) -> None:
    with temporary.folder("data") as made:
        assert made.parent == scratch
        assert made.name.startswith("raysweep-data-")
        (made / "file").touch()
        make_one()
        assert (made / "file").exists(), "this process has it still"
    assert list(scratch.iterdir()) == []


def test_one_may_be_made_elsewhere(tmp_path: Path) -> None:
    made = temporary.make("ray", tmp_path)
    assert made.parent == tmp_path
    temporary.remove(made)


def test_the_folder_of_a_killed_process_goes_when_the_next_one_is_made(holder: Holder) -> None:
    process, folder = holder(WAITS)
    (folder / "deep" / "er").mkdir(parents=True)
    make_one()
    assert folder.is_dir(), "its process lives"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert folder.is_dir()
    make_one()
    assert not folder.exists()


def test_a_fork_of_the_process_owns_it_too(holder: Holder) -> None:
    process, folder = holder(FORKS)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    make_one()
    assert folder.is_dir(), "the fork may use it"
    os.kill(child, signal.SIGKILL)
    process.stdout.read()  # to its end: the fork has ended
    make_one()
    assert not folder.exists()


def test_a_program_that_it_starts_does_not_own_it(holder: Holder) -> None:
    process, folder = holder("import subprocess; print(subprocess.Popen(['cat']).pid, flush=True); " + WAITS)
    assert process.stdout is not None
    program = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    make_one()
    assert not folder.exists()
    os.kill(program, signal.SIGKILL)  # it was there all the time


def test_what_is_not_ours_stays(scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (scratch / "raysweep-old").mkdir()  # without an owner's file
    (scratch / "raysweep-file").touch()
    (scratch / "other-abc").mkdir()
    (scratch / "other-abc" / temporary.OWNER).touch()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / temporary.OWNER).touch()
    (scratch / "raysweep-link").symlink_to(precious)
    (scratch / "raysweep-linked-owner").mkdir()
    (scratch / "raysweep-linked-owner" / temporary.OWNER).symlink_to(precious / temporary.OWNER)
    before = sorted(scratch.rglob("*"))
    make_one()
    assert sorted(scratch.rglob("*")) == before
    assert (precious / temporary.OWNER).exists()


def test_nor_does_a_folder_of_another_user_go(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = scratch / "raysweep-theirs"
    theirs.mkdir()
    (theirs / temporary.OWNER).touch()
    monkeypatch.setattr(os, "geteuid", lambda: theirs.stat().st_uid + 1)
    make_one()
    assert theirs.exists()
    monkeypatch.undo()
    temporary._remove_abandoned(scratch)
    assert not theirs.exists()


def test_one_in_which_something_is_still_written_goes_later(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = scratch / "raysweep-left"
    left.mkdir()
    (left / temporary.OWNER).touch()
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: (Path(path) / temporary.OWNER).unlink())
    temporary._remove_abandoned(scratch)
    monkeypatch.undo()
    temporary._remove_abandoned(scratch)
    assert not left.exists()


def test_the_folder_of_a_local_cluster_is_the_clusters(tmp_path: Path) -> None:
    folder = Path(local._plan(tmp_path, tmp_path / "token", Options()).temp_dir)
    temporary._remove_abandoned(folder.parent)
    assert folder.is_dir(), "the command that made it has no lock of it, and it lives on"
    folder.rmdir()
