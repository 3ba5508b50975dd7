"""What is understood of the last words of a process, as Python's faulthandler and `note` write them."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from raysweep import ray_private
from raysweep.trial import actor, last_words
from raysweep.trial.last_words import LastWords, Traces

TRAIN, WAITS = "/home/me/tasks/train.py", actor.__file__
STACKS = f"""
Thread 0x00007f59 (most recent call first):
  File "{TRAIN}", line 12 in step
  File "{TRAIN}", line 20 in train
  File "{WAITS}", line 141 in _call

{{current}} 0x00007f5a (most recent call first):
  File "{WAITS}", line 72 in step
  File "<frozen importlib._bootstrap>", line ??? in load
"""
ELSEWHERE = STACKS.format(current="Current thread")
AT = f" at {TRAIN}, line 12, in step"


@pytest.mark.parametrize(
    ("words", "end"),
    [
        ("", ""),
        ("half a l", ""),
        (f"Fatal Python error: Segmentation fault\n{ELSEWHERE}", f"by SIGSEGV{AT}"),
        (f"Fatal Python error: Aborted\n{ELSEWHERE}\nExtension modules: numpy\n", f"by SIGABRT{AT}"),
        (f"Fatal Python error: Bus error\n{ELSEWHERE}", f"by SIGBUS{AT}"),
        (f"Fatal Python error: Something new\n{ELSEWHERE}", f"by Something new{AT}"),
        (ELSEWHERE, f"by SIGTERM{AT}"),
        (f"Timeout (0:00:05)!\n{STACKS.format(current='Thread')}", f"when its time was up{AT}"),
        (f'Current thread 0x1 (most recent call first):\n  File "{WAITS}", line 3 in x\n', "by SIGTERM"),
        ("itself: SIGKILL at train.py, line 3, in train\n", "by itself, with SIGKILL at train.py, line 3, in train"),
        (f"itself: SIGSEGV\nFatal Python error: Segmentation fault\n{ELSEWHERE}", "by itself, with SIGSEGV"),
    ],
)
def test_the_end_is_understood(words, end, tmp_path):
    (tmp_path / "worker.end").write_text(words)
    assert last_words.read(str(tmp_path / "worker.end")) == end


def test_the_thread_in_which_it_happened_comes_first(tmp_path):
    crash = f'Current thread 0x1 (most recent call first):\n  File "{TRAIN}", line 99 in daemon\n'
    (tmp_path / "worker.end").write_text(f"Fatal Python error: Aborted\n{STACKS.format(current='Thread')}{crash}")
    assert last_words.read(str(tmp_path / "worker.end")) == f"by SIGABRT at {TRAIN}, line 99, in daemon"


def test_a_file_that_is_gone_says_nothing(tmp_path):
    assert last_words.read(str(tmp_path / "none.end")) == ""


def test_a_process_that_is_not_rays_writes_nothing():
    words = LastWords()
    words.note("os._exit(3)")
    words.forget()
    assert words.traces is None


def test_a_log_that_ray_rotates_is_behind_a_pipe(monkeypatch):
    context = SimpleNamespace(get_node_id=lambda: "ab")
    util = SimpleNamespace(get_node_ip_address=lambda: "10.0.0.1")
    in_a_worker = SimpleNamespace(is_initialized=lambda: True, get_runtime_context=lambda: context, util=util)
    monkeypatch.setattr(last_words, "ray", in_a_worker)
    monkeypatch.setattr(last_words.ray_private, "worker_log", lambda: "/tmp/ray/logs/worker-1.err")
    monkeypatch.setattr(Path, "readlink", lambda self: Path("pipe:[4711]"))
    assert last_words._traces() == Traces("ab", "10.0.0.1", "/tmp/ray/logs/worker-1.err")


def test_a_driver_has_no_log_of_rays(monkeypatch):
    monkeypatch.setattr(last_words, "ray", SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setattr(Path, "readlink", lambda self: Path("pipe:[4711]"))
    assert ray_private.worker_log() == ""
    assert last_words._traces() is None


def test_they_lie_beside_rays_log():
    assert Traces("ab", "10.0.0.1", "/tmp/ray/logs/worker-1.err").words == "/tmp/ray/logs/worker-1.end"
