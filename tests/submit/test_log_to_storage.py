"""A command's output is kept in the storage, whatever ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raysweep.errors import StorageError
from raysweep.storage import append_log, open_storage
from raysweep.submit import log_to_storage
from tests.waiting import PATIENCE_S, until

ROOT = Path(__file__).parents[2]


def kept(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("*.log")))


@pytest.mark.parametrize(("code", "expected"), [("print('hello')", 0), ("print('hello'); raise SystemExit(2)", 2)])
def test_output_and_exit_code_are_kept_and_passed_on(
    code: str, expected: int, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert log_to_storage.run([sys.executable, "-c", code], open_storage(str(tmp_path))) == expected
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
    log = log_to_storage.Log(place)
    lines = [f"line {number:03d}\n".encode() for number in range(100)]
    for line in lines:
        log.add(line)
        log.save()
    log.add(b"exit code 0\n")
    log.save()
    assert kept(tmp_path).encode() == b"".join(lines) + b"exit code 0\n"
    assert max(puts) < 120
    assert len(list(tmp_path.glob("*.log"))) == 9
    assert log_to_storage.exit_code(sorted(tmp_path.glob("*.log"))[-1].read_text()) == 0


def test_standard_error_is_part_of_the_log(tmp_path: Path) -> None:
    log_to_storage.run([sys.executable, "-c", "import sys; print('why', file=sys.stderr)"], open_storage(str(tmp_path)))
    assert kept(tmp_path).startswith("why\n")


def test_a_store_that_refuses_does_not_end_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_storage(str(tmp_path))

    def refuse(*_: object) -> None:
        raise StorageError("away")

    monkeypatch.setattr(type(place), "put", refuse)
    assert log_to_storage.run([sys.executable, "-c", "print(1)"], place) == 0


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
