"""What a process prints, in a real process whose descriptors are redirected; `tests/loop/test_printed.py` has Ray."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from raysweep.history import trial_log
from raysweep.history.trial_log import HEAD_BYTES, TAIL_BYTES
from raysweep.storage import Storage, open_storage
from raysweep.trial import spool
from raysweep.trial.output import Output
from raysweep.trial.run import Run
from tests import s3
from tests.waiting import PATIENCE_S

PROCESS = """
import ctypes, logging, os, subprocess, sys, threading, time, warnings
from raysweep.history.checkpoint import Checkpoint
from raysweep.storage import open_storage
from raysweep.trial.last_words import Traces
from raysweep.trial.output import Output
from raysweep.trial.run import Run

output = Output(Traces("node", "10.0.0.1", sys.argv[1]))
output.open(open_storage(sys.argv[2]))
sys.stdout.reconfigure(line_buffering=True)  # as Ray's workers have it


def begin(trial, first=True, iteration=0, **more):
    start = Checkpoint(f"checkpoints/{trial}/x", iteration, 1, "0") if iteration else None
    output.begin(Run(trial, {}, {}, start, first=first), **more)
"""


class Process:
    """Runs code with an `Output` in a process of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.log, self.url = folder / "worker-1.err", url

    def run(self, code: str) -> int:
        script = PROCESS + textwrap.dedent(code)
        command = [sys.executable, "-c", script, str(self.log), self.url]
        return subprocess.run(command, timeout=PATIENCE_S, stdin=subprocess.DEVNULL).returncode

    @property
    def storage(self) -> Storage:
        return open_storage(self.url)

    def text(self, trial: str = "00000") -> str:
        return bytes(trial_log.read(self.storage, trial)).decode()

    def rescue(self) -> None:
        files = (str(self.log.with_suffix(suffix)) for suffix in (".printed", ".runs"))
        spool.rescue(*files, self.storage)


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process(tmp_path, str(tmp_path / "s"))


def without_headers(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("[raysweep: trial ")]


def test_whoever_prints_it_is_kept_in_order(process: Process) -> None:
    code = process.run("""
        print("while the process starts")
        begin("00000", iteration=4)
        print("python")
        sys.stderr.write("\\r 1%"); sys.stderr.write("\\r100%\\n")
        ctypes.CDLL(None).printf(b"C\\n")
        logging.getLogger("task").warning("logging")
        warnings.showwarning = lambda text, *_: sys.stderr.write(f"{text}\\n")
        warnings.warn("a warning", stacklevel=1)
        subprocess.run(["echo", "a program"])
        if os.fork() == 0:
            print("a fork"); os._exit(0)
        os.wait()
        os.write(2, b"half a line")
        assert output.finish(30)[-4:] == ("a warning", "a program", "a fork", "half a line")
    """)
    assert code == 0, process.text()
    header, *lines = process.text().splitlines()
    assert header.startswith("[raysweep: trial 00000, 20")
    assert header.endswith(" UTC: from iteration 5 on node " + f"{os.uname().nodename} (10.0.0.1)]")
    expected = ("while the process starts", "python", "100%", "C", "logging")
    assert lines == [*expected, "a warning", "a program", "a fork", "half a line"]
    assert not list(process.log.parent.glob("worker-1.*")), "its files go with it"


def test_each_run_has_its_own_text(process: Process) -> None:
    code = process.run("""
        begin("00000")
        print("the first")
        go, gone = threading.Event(), threading.Event()
        outlives = threading.Thread(target=lambda: (go.wait(), print("from the first"), gone.set()))
        outlives.start()
        output.pause()
        begin("00001")
        output.pause()
        begin("00002")
        go.set(), gone.wait()
        print("the third")
        begin("00000", first=False, iteration=2)
        print("the first again")
        begin("00003", label="rank 1")
        print("two\\nlines")
        output.finish(30)
    """)
    assert code == 0
    files = process.storage.list("logs")
    assert [file for file in files if file.count("/") == 1] == ["logs/00000.txt", "logs/00002.txt"]
    assert [file.split("/")[1] for file in files if file.count("/") == 2] == ["00000", "00003"], "a run each"
    assert without_headers(process.text("00000")) == ["the first", "the first again"]
    assert "from iteration 3 " in process.text("00000")
    assert without_headers(process.text("00002")) == ["from the first", "the third"]
    assert without_headers(process.text("00003")) == ["(rank 1) two", "(rank 1) lines"]


def test_a_run_that_goes_on_is_stored_now_and_then_with_its_unfinished_line(process: Process) -> None:
    code = process.run("""
        from raysweep.history import trial_log
        trial_log.AGAIN_S = 0.1
        begin("00000")
        print("a line")
        print("\\r 50%", end="", flush=True)
        while not (text := trial_log.stored(output._storage, "logs/00000.txt")) or not text.endswith(b"50%"):
            time.sleep(0.02)
        print("\\r100%", flush=True)
        os._exit(0 if text.endswith(b"a line\\n 50%") else 3)
    """)
    assert code == 0
    process.rescue()
    assert without_headers(process.text()) == ["a line", "100%"]


def test_what_a_killed_process_printed_last_is_still_there(process: Process) -> None:
    code = process.run("""
        begin("00000")
        print("the last words")
        os.kill(os.getpid(), 9)
    """)
    assert code == -9
    assert process.text() == ""
    files = [str(process.log.with_suffix(suffix)) for suffix in (".printed", ".runs")]
    assert spool.last_lines(*files) == ("the last words",)
    process.rescue()
    assert without_headers(process.text()) == ["the last words"]


def test_the_next_process_of_the_sweep_stores_it_too(process: Process) -> None:
    process.run('begin("00000"); print("the last words"); os.kill(os.getpid(), 9)')
    process.log = process.log.with_name("worker-2.err")
    assert process.run('begin("00001"); print("another"); output.finish(30)') == 0
    assert without_headers(process.text("00000")) == ["the last words"]
    assert not list(process.log.parent.glob("worker-*"))


def test_of_a_flood_the_ends_are_kept_and_the_disk_does_not_fill(process: Process) -> None:
    code = process.run("""
        begin("00000")
        block, most = b"".join(b"%07d\\n" % n for n in range(2**17)), 0  # 1 MB
        for n in range(150):
            os.write(1, block)
            while output._parts[0].read < (n - 20) * len(block):  # as a slower one prints
                time.sleep(0.005)
            most = max(most, os.stat(output._traces.printed).st_blocks * 512)
        os.write(1, b"the end\\n")
        output.finish(60)
        os._exit(most // 2**20)
    """)
    assert 10 < code < 60, "megabytes on the disk at most"
    text = process.text().encode()
    assert HEAD_BYTES + TAIL_BYTES - 100 < len(text) < HEAD_BYTES + TAIL_BYTES + 100
    assert text.endswith(b"0131071\nthe end\n")
    left_out = int(text.partition(b"\n[raysweep: ")[2].split()[0])
    header, gap = text.find(b"\n") + 1, len(b"[raysweep: %d bytes are left out here]\n" % left_out)
    assert len(text) - header - gap + left_out == 150 * 2**20 + len("the end\n")


def touch_when_asked(proxy: s3.S3Proxy, file: Path) -> None:
    while not any(operation == "PutObject" for operation, _ in proxy.requests):
        time.sleep(0.02)
    file.touch()


def test_a_store_that_does_not_answer_neither_stops_the_process_nor_loses_its_text(
    tmp_path: Path, s3_server: s3.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3.running_s3_proxy(s3_server) as proxy:
        s3.use(proxy, monkeypatch)
        process = Process(tmp_path, f"{proxy.new_bucket()}/s")
        proxy.hang("PutObject")
        asked = threading.Thread(target=touch_when_asked, args=(proxy, tmp_path / "asked"), daemon=True)
        asked.start()
        code = process.run("""
            for trial in range(3):
                begin(f"0000{trial}")
                for n in range(1000):
                    print("line", n)
                output.pause()
            while not os.path.exists(os.path.dirname(sys.argv[1]) + "/asked"):
                time.sleep(0.02)
            assert output.finish(1.0)[-1] == "line 999"
            os._exit(7)
        """)
        assert code == 7
        asked.join()
        proxy.heal()
        process.rescue()
        for trial in ("00000", "00001", "00002"):
            assert without_headers(process.text(trial)) == [f"line {n}" for n in range(1000)]


def test_a_store_that_refuses_is_asked_again(
    tmp_path: Path, s3_server: s3.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3.running_s3_proxy(s3_server) as proxy:
        s3.use(proxy, monkeypatch)
        process = Process(tmp_path, f"{proxy.new_bucket()}/s")
        proxy.refuse("PutObject", key="logs/", nth=1)
        assert process.run('begin("00000"); print("a line"); output.finish(30)') == 0
        assert without_headers(process.text()) == ["a line"]
        assert [key for operation, key in proxy.requests if operation == "PutObject"] == ["s/logs/00000.txt"] * 2


def test_a_process_that_is_not_rays_keeps_its_output(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = Output(None)
    output.open(open_storage(str(tmp_path)))
    output.begin(Run("00000", {}, {}))
    print("here")
    output.pause()
    assert output.finish(1.0) == ()
    assert capfd.readouterr().out == "here\n"
    assert open_storage(str(tmp_path)).list() == []


def test_a_silent_run_costs_no_request(process: Process) -> None:
    assert process.run('[(begin(f"{n:05d}"), output.pause()) for n in range(2000)]; output.finish(30)') == 0
    assert process.storage.list() == []
