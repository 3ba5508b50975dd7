"""A command's output is kept in the storage, whatever ends it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raysweep import sealed
from raysweep.errors import BadInput, StorageError
from raysweep.storage import Storage, append_log, open_storage
from raysweep.submit import log_to_storage
from tests.waiting import PATIENCE_S, until, within

ROOT = Path(__file__).parents[2]


def kept(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("*.log")))


@pytest.mark.parametrize(("code", "expected"), [("print('hello')", 0), ("print('hello'); raise SystemExit(2)", 2)])
def test_output_and_exit_code_are_kept_and_passed_on(
    code: str, expected: int, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert log_to_storage.run([sys.executable, "-c", code], lambda: open_storage(str(tmp_path))) == expected
    assert kept(tmp_path) == f"hello\nexit code {expected}\n"
    assert capfdbinary.readouterr().out == b"hello\n"
    assert log_to_storage.exit_code(kept(tmp_path)) == expected


def test_a_long_log_is_kept_in_parts_of_which_only_the_newest_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append_log, "PART_BYTES", 100)
    place, puts = open_storage(str(tmp_path)), []
    put = type(place).put
    monkeypatch.setattr(type(place), "put", lambda self, key, data: (puts.append(len(data)), put(self, key, data)))
    log = log_to_storage.Log(lambda: place)
    lines = [f"line {number:03d}\n".encode() for number in range(100)]
    for line in lines:
        log.add(line)
        log.save()
    log.end(0)
    assert kept(tmp_path).encode() == b"".join(lines) + b"exit code 0\n"
    assert max(puts) < 120
    assert len(list(tmp_path.glob("*.log"))) == 9
    assert log_to_storage.exit_code(sorted(tmp_path.glob("*.log"))[-1].read_text()) == 0


def test_standard_error_is_part_of_the_log(tmp_path: Path) -> None:
    code = "import sys; print('why', file=sys.stderr)"
    log_to_storage.run([sys.executable, "-c", code], lambda: open_storage(str(tmp_path)))
    assert kept(tmp_path).startswith("why\n")


def test_a_store_that_refuses_does_not_end_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_storage(str(tmp_path))

    def refuse(*_: object) -> None:
        raise StorageError("away")

    monkeypatch.setattr(type(place), "put", refuse)
    assert log_to_storage.run([sys.executable, "-c", "print(1)"], lambda: place) == 0


def test_keys_that_come_late_do_not_lose_the_beginning(tmp_path: Path) -> None:
    refusals = [BadInput("sealed with another token"), StorageError("away")]

    def opened() -> Storage:
        if refusals:
            raise refusals.pop()
        return open_storage(str(tmp_path))

    log = log_to_storage.Log(opened)
    for line in (b"one\n", b"two\n", b"three\n"):
        log.add(line)
        log.save()
    assert kept(tmp_path) == "one\ntwo\nthree\n"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 100 bytes, of which 300 and 900 are kept."""
    monkeypatch.setattr(append_log, "PART_BYTES", 100)
    monkeypatch.setattr(log_to_storage, "HEAD_BYTES", 300)
    monkeypatch.setattr(log_to_storage, "TAIL_BYTES", 900)


LINES = [f"line {number:04d}\n".encode() for number in range(1000)]


def lines_and_gaps(text: str) -> tuple[list[bytes], int]:
    """The lines of a log but for those that say how much was left out, and how much that is."""
    gaps = re.findall(r"^\[raysweep: (\d+) bytes are left out here\]\n", text, re.MULTILINE)
    rest = re.sub(r"^\[raysweep: .*\]\n", "", text, flags=re.MULTILINE)
    return rest.encode().splitlines(keepends=True), sum(map(int, gaps))


def test_of_a_very_long_log_the_beginning_and_the_end_are_kept(tmp_path: Path, small: None) -> None:
    log = log_to_storage.Log(lambda: open_storage(str(tmp_path)))
    for line in LINES:
        log.add(line)
        log.save()
    text = kept(tmp_path)
    lines, left_out = lines_and_gaps(text)
    assert left_out == sum(map(len, LINES)) - sum(map(len, lines))
    gap = text.encode().splitlines(keepends=True).index(f"[raysweep: {left_out} bytes are left out here]\n".encode())
    assert lines == LINES[:gap] + LINES[len(LINES) - len(lines) + gap :]
    assert 200 <= len(b"".join(lines[:gap])) <= 300
    assert 800 <= len(b"".join(lines[gap:])) <= 1000
    assert len(list(tmp_path.glob("*.log"))) < 15


def test_while_the_store_is_away_the_newest_output_waits_for_it(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, away = open_storage(str(tmp_path)), [True]
    put = type(place).put

    def put_unless_away(self: Storage, key: str, data: bytes) -> None:
        if away:
            raise StorageError("away")
        put(self, key, data)

    monkeypatch.setattr(type(place), "put", put_unless_away)
    log = log_to_storage.Log(lambda: place)
    for line in LINES:
        log.add(line)
        log.save()
        assert len(log._unsaved) <= 900 + len(line)
    away.clear()
    log.save()
    lines, left_out = lines_and_gaps(kept(tmp_path))
    assert lines == LINES[len(LINES) - len(lines) :]
    assert len(lines) > 40
    assert left_out == sum(map(len, LINES)) - sum(map(len, lines))


def test_an_error_of_a_library_neither_ends_the_command_nor_its_log(tmp_path: Path) -> None:
    errors = [ImportError("no boto3")]

    def opened() -> Storage:
        if errors:
            raise errors.pop()
        return open_storage(str(tmp_path))

    log = log_to_storage.Log(opened)
    log.add(b"one")
    log.save()
    log.add(b"\n")
    log.save()
    log.end(3)
    assert kept(tmp_path) == "one\nexit code 3\n"


def test_what_a_command_leaves_running_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_to_storage, "DRAIN_S", 0.5)
    pid = tmp_path / "pid"
    command = ["sh", "-c", f"sleep 600 & echo $! >{pid}; echo left"]
    with within(60):
        assert log_to_storage.run(command, lambda: open_storage(str(tmp_path))) == 0
    os.kill(int(pid.read_text()), signal.SIGTERM)
    assert kept(tmp_path) == "left\nexit code 0\n"


def test_a_line_that_is_not_finished_is_passed_on_at_once(tmp_path: Path) -> None:
    script = "import time; print('50 %', end='', flush=True); time.sleep(60)"
    command = [sys.executable, "-m", "raysweep.submit.log_to_storage", str(tmp_path), sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(4) == b"50 %"
        subprocess.run(["pkill", "-TERM", "-P", str(process.pid)], check=True)
        assert process.wait(timeout=PATIENCE_S) == 128 + signal.SIGTERM
    assert kept(tmp_path) == "50 %\nexit code 143\n"


def test_the_storage_has_the_jobs_own_keys_and_the_command_those_of_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "a" * 32
    given = sealed.runtime_env({"RAYSWEEP_STORAGE": str(tmp_path), "SECRET": "hidden"}, token)["env_vars"]
    (tmp_path / "token").write_text(token)
    env = given | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    code = "import os; print(os.environ.get('SECRET'))"
    command = [sys.executable, "-m", "raysweep.submit.log_to_storage", "first/logs/a", sys.executable, "-c", code]
    subprocess.run(command, cwd=ROOT, env=os.environ | env, check=True)
    assert kept(tmp_path / "first" / "logs" / "a") == "None\nexit code 0\n"


def test_the_log_is_saved_while_the_command_runs_and_a_signal_does_not_lose_its_end(tmp_path: Path) -> None:
    script = (
        "import time\ntry:\n print('begun', flush=True)\n time.sleep(60)\nexcept KeyboardInterrupt:\n print('saved')"
    )
    command = [sys.executable, "-m", "raysweep.submit.log_to_storage", str(tmp_path), sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        until(lambda: "begun" in kept(tmp_path))
        assert log_to_storage.exit_code(kept(tmp_path)) is None
        child = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout
        for pid in (process.pid, int(child)):
            subprocess.run(["kill", f"-{signal.SIGINT.value}", str(pid)], check=True)
        assert process.wait(timeout=PATIENCE_S) == 0
    assert kept(tmp_path).endswith("saved\nexit code 0\n")
