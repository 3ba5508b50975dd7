"""The supervisor: real processes that are killed, hang, crash or end; what a life did is in a file."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raysweep.driver import supervisor
from tests.waiting import PATIENCE_S, until, within

DRIVER = """
import ctypes, os, pathlib, signal, sys, time
from raysweep.driver import supervisor
from raysweep.driver.supervisor import Heart, Supervisor

supervisor.HANG_S, supervisor.ABORT_S = 3.0, 0.5
supervisor.BEAT_S, supervisor.LONGEST_WAIT_S = 0.01, {wait}
place = pathlib.Path(sys.argv[1])
heart = Heart()

def life(again):
    number = len(list(place.iterdir()))
    (place / str(os.getpid())).write_text(str(again))
    print("life", number, again, flush=True)
    return lives(number)

def forever():
    for step in range(2000):
        heart.turn()
        time.sleep(0.01)
    return 7

def sigterm():
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    print("ready", flush=True)
    while not stopped:
        time.sleep(0.01)
    time.sleep(0.3)
    return len(stopped)

def leave_a_child():
    if os.fork() == 0:
        os.closerange(0, 3)
        time.sleep(30)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)

def lives(number):
    {lives}

sys.exit(Supervisor(life).run())
"""


@pytest.fixture
def job(tmp_path):
    """Starts a supervised driver; `lives` is Python that returns an exit code, from the number of the life."""
    place, started = tmp_path / "lives", []
    place.mkdir()

    def start(lives, wait=0.05, own_group=False):
        script = tmp_path / "job.py"
        script.write_text(DRIVER.replace("{lives}", lives).replace("{wait}", str(wait)))
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        pipe = subprocess.PIPE
        started.append(
            subprocess.Popen(
                [sys.executable, script, place],
                stdout=pipe,
                stderr=subprocess.STDOUT,
                text=True,
                env=env,
                start_new_session=own_group,
            )
        )
        return started[0]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def end(process):
    log, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, log


def read_until(process, text):
    while text not in (line := process.stdout.readline()):
        assert line, f"it ended without `{text}`"


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_driver_that_ends_by_itself_is_not_started_again(job, code):
    assert end(job(f"return {code}")) == (code, "life 0 False\n")


def test_a_killed_driver_is_restarted_and_knows_it(job):
    code, log = end(job("return os.kill(os.getpid(), signal.SIGKILL) if number < 2 else 3"))
    assert code == 3
    assert [line for line in log.splitlines() if line.startswith("life")] == [
        "life 0 False",
        "life 1 True",
        "life 2 True",
    ]
    assert "SIGKILL ended the driver: it is restarted in" in log
    assert "(2 of 5)" in log


def test_a_crash_outside_of_python_is_shown_and_survived(job):
    code, log = end(job("return ctypes.string_at(0) if number == 0 else 0"))
    assert code == 0
    assert "SIGSEGV ended the driver" in log
    assert "in lives" in log, "the traceback of the crash"


def test_lives_are_limited_and_the_end_is_a_failure(job):
    code, log = end(job("os.kill(os.getpid(), signal.SIGKILL)"))
    assert code == 1
    assert log.count("life ") == 6


def test_a_hanging_driver_is_ended_with_its_traceback_and_replaced(job):
    code, log = end(job("heart.turn(); time.sleep(60 if number == 0 else 0); return 0"))
    assert code == 0
    assert "the driver has made no step for 3 s" in log
    assert "in lives" in log
    assert log.count("life ") == 2


def test_a_driver_that_loads_or_tidies_up_for_long_does_not_hang(job):
    assert end(job("time.sleep(4); heart.turn(); heart.close(); time.sleep(4); return 4"))[0] == 4


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_supervisor_alone_reaches_the_driver_once(job, sent):
    process = job("return sigterm()")
    read_until(process, "ready")
    process.send_signal(sent)
    assert end(process)[0] == 1


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("to_all", [True, False])
def test_a_driver_that_does_not_handle_the_request_to_stop_is_not_started_again(job, sent, to_all):
    """As while data load, when nothing is there to save: Ray signals the whole process group."""
    process = job("print('ready', flush=True); time.sleep(60)", own_group=True)
    read_until(process, "ready")
    (os.killpg if to_all else os.kill)(process.pid, sent)
    code, log = end(process)
    assert code in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    # The first one's traceback may be there, and quotes this test's script.
    assert not re.search("^life ", log, re.MULTILINE), log
    assert "is restarted" not in log


def test_a_request_to_stop_ends_the_wait_before_the_next_life(job):
    process = job("os.kill(os.getpid(), signal.SIGKILL)", wait=60)
    for _ in range(3):  # the waits are 1, 2 and 4 s
        read_until(process, "it is restarted in")
    with within(2):
        process.send_signal(signal.SIGTERM)
        code, log = end(process)
    assert code == 128 + signal.SIGTERM
    assert "life" not in log


def test_a_killed_driver_is_replaced_while_a_process_that_it_forked_lives_on(job):
    code, log = end(job("leave_a_child() if number == 0 else None; return 3"))
    assert code == 3
    assert "SIGKILL ended the driver" in log


def test_a_driver_whose_supervisor_was_killed_follows(job, tmp_path):
    process = job("return forever()")
    read_until(process, "life 0")
    process.kill()
    process.wait()
    [driver] = [int(path.name) for path in (tmp_path / "lives").iterdir()]
    until(lambda: not Path(f"/proc/{driver}").exists(), "it goes on alone")


def test_lives_in_which_a_trial_ended_do_not_count(job):
    ends = "heart.ended(None) if number % 3 == 0 else None"
    code, log = end(job(f"{ends}; os.kill(os.getpid(), 9 if number < 14 else 0); return 5"))
    assert (code, log.count("life ")) == (5, 15)
    assert "its sweep has made progress" in log


def test_a_driver_that_is_suspended_is_ended_for_good(job):
    job_ = job("heart.turn(); os.kill(os.getpid(), signal.SIGSTOP if number == 0 else 0); return 3")
    code, log = end(job_)
    assert (code, "ended by SIGKILL" in log) == (3, True), log


def test_a_heart_without_a_supervisor_does_nothing():
    heart = supervisor.Heart()
    heart.turn()
    heart.ended(None)
    heart.close()


def test_a_heart_reports_the_progress_of_the_sweep(monkeypatch):
    read_end, pipe = os.pipe()
    monkeypatch.setattr(supervisor, "_pulse", supervisor.Pulse(pipe))
    heart = supervisor.Heart()
    for _ in range(100):
        heart.turn()  # at most one a second is reported
    heart.ended(None)
    heart.close()
    heart.turn()  # and the first one after a rest
    assert os.read(read_end, 100) == b".+-."
    os.close(read_end)
    os.close(pipe)


def test_no_part_of_ray_tune_is_imported_for_it():
    script = "import sys, raysweep.driver.supervisor; assert 'ray.tune' not in sys.modules"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
