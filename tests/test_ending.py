"""What ends a trial or a sweep before its time: nan, limits, a storage that refuses, a hopeless task, a signal."""

from __future__ import annotations

import math
import os
import signal
from types import SimpleNamespace

import pytest
from ray.tune.experiment import Trial

from raysweep import ending
from raysweep.ending import SILENCE_S, Interruption, Reaper, Stop
from raysweep.failure import Kind


def result(iteration=1, seconds=1.0, **metrics):
    return {"training_iteration": iteration, "time_total_s": seconds, **metrics}


def trial(name="00000", status=Trial.RUNNING, **more):
    plain = {"kind": None, "refused": None, "silent": False, "error_file": None, "grow": lambda kind: None}
    return SimpleNamespace(
        trial_id=name, status=status, temporary_state=SimpleNamespace(ray_actor="actor"), **plain | more
    )


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(ending.time, "monotonic", lambda: now.seconds)
    return now


@pytest.mark.parametrize(
    ("told", "stops"),
    [
        (result(4, loss=1.0), False),
        (result(5, loss=1.0), True),
        (result(1, 9.0, loss=1.0), True),
        (result(1, loss=math.nan), True),
        (result(1, loss=-math.inf), True),
        (result(1, other=math.nan), False),
        (result(1, loss="diverged"), False),
    ],
)
def test_a_trial_ends_when_it_is_complete_out_of_time_or_diverged(told, stops):
    assert Stop(5, ("loss",), timeout=9.0)("00000", told) is stops


def test_nan_stops_nothing_when_no_metric_is_looked_at():
    assert not Stop(5)("00000", result(1, loss=math.nan))


def test_a_used_up_budget_ends_the_sweep(clock):
    stop = Stop(5, budget=10.0)
    clock.seconds += 9
    assert not stop.stop_all()
    clock.seconds += 1
    assert stop.stop_all()
    assert stop.out_of_time


def fail(stop, tmp_path, *errors):
    for number, error in enumerate(errors):
        path = tmp_path / f"error-{number}.txt"
        path.write_text(f"Traceback\n{error}\n")
        stop.on_trial_error(0, [], trial(f"{number:05d}", kind=Kind.EXCEPTION, error_file=str(path)))


def test_a_sweep_whose_first_trials_all_fail_the_same_way_ends(clock, tmp_path):
    stop = Stop(5, total=20)
    fail(stop, tmp_path, "ValueError: no such layer", "ValueError: no such layer")
    assert not stop.stop_all()
    fail(stop, tmp_path, "ValueError: no such layer")
    assert stop.stop_all()
    assert stop.hopeless


def test_a_sweep_of_two_trials_is_hopeless_after_two(clock, tmp_path):
    stop = Stop(5, total=2)
    fail(stop, tmp_path, "ValueError: no", "ValueError: no")
    assert stop.hopeless


def test_trials_that_fail_in_other_ways_or_late_or_beside_one_that_reports_end_nothing(clock, tmp_path):
    other, late, reported = Stop(5, total=20), Stop(5, total=20), Stop(5, total=20)
    fail(other, tmp_path, "ValueError: no", "ValueError: no", "KeyError: 'x'")
    reported.on_trial_result(0, [], trial(), result())
    fail(reported, tmp_path, *["ValueError: no"] * 3)
    clock.seconds += ending.FIRST_S
    fail(late, tmp_path, *["ValueError: no"] * 3)
    assert not any(stop.stop_all() for stop in (other, late, reported))


def test_a_storage_that_refuses_ends_the_sweep():
    stop = Stop(5)
    stop.on_trial_recover(0, [], trial(kind=Kind.REFUSED, refused="runs: the disk is full"))
    assert (stop.stop_all(), stop.refused) == (True, "runs: the disk is full")


def test_a_trial_that_ran_out_of_memory_gets_more():
    grown = []
    Stop(5).on_trial_recover(0, [], trial(kind=Kind.GPU_MEMORY, grow=grown.append))
    Stop(5).on_trial_recover(0, [], trial(kind=Kind.LOST, grow=grown.append))
    assert grown == [Kind.GPU_MEMORY]


@pytest.fixture
def killed(monkeypatch):
    actors = []
    monkeypatch.setattr(ending.ray, "kill", actors.append)
    return actors


def test_a_silent_trial_is_ended_once(clock, killed, capsys):
    reaper, one = Reaper(30.0), trial()
    reaper.on_trial_start(0, [], one)
    for seconds, count in ((29, 0), (1, 1), (5, 1)):
        clock.seconds += seconds
        reaper.on_step_begin(0, [one])
        assert len(killed) == count
    assert one.silent
    assert capsys.readouterr().out == "trial 00000 has been silent for 30 s: its process is ended\n"


def test_a_report_a_start_and_a_pause_are_signs_of_life(clock, killed):
    reaper, one = Reaper(30.0), trial()
    for sign in (reaper.on_trial_start, lambda *call: reaper.on_trial_result(*call, result())):
        sign(0, [], one)
        clock.seconds += 29
        reaper.on_step_begin(0, [one])
    one.status = Trial.PAUSED
    clock.seconds += 60
    reaper.on_step_begin(0, [one])
    assert killed == []


def test_without_a_limit_slow_iterations_buy_patience(clock, killed):
    reaper, one = Reaper(None), trial()
    reaper.on_trial_start(0, [], one)
    clock.seconds += 100
    reaper.on_trial_result(0, [], one, result())
    clock.seconds += SILENCE_S + 1
    reaper.on_step_begin(0, [one])
    assert killed == []
    clock.seconds += 1100
    reaper.on_step_begin(0, [one])
    assert killed == ["actor"]


@pytest.fixture
def interruption():
    """In place of Tune's handler of SIGINT, one that counts."""
    ends, before = [], signal.getsignal(signal.SIGINT)
    with Interruption() as running:
        signal.signal(signal.SIGINT, lambda *_: ends.append("end"))
        yield running, ends
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_every_running_trial_report_first(clock, interruption, sent):
    running, ends = interruption
    trials = [trial("0"), trial("1"), trial("2", Trial.PENDING)]
    running.on_step_begin(0, trials)
    os.kill(os.getpid(), sent)
    running.on_step_begin(0, trials)
    running.on_trial_result(0, trials, trials[0], result())
    running.on_step_begin(0, trials)
    assert ends == []
    running.on_trial_complete(0, trials, trials[1])
    running.on_step_begin(0, trials)
    running.on_step_begin(0, trials)
    assert ends == ["end"]


def test_it_waits_for_a_while_only_and_a_signal_passed_on_changes_nothing(clock, interruption):
    running, ends = interruption
    running.on_step_begin(0, [trial()])
    os.kill(os.getpid(), signal.SIGINT)
    for seconds in (0, ending.GRACE_S - 1):
        clock.seconds += seconds
        os.kill(os.getpid(), signal.SIGTERM)
        running.on_step_begin(0, [trial()])
    assert ends == []
    clock.seconds += 1
    running.on_step_begin(0, [trial()])
    assert ends == ["end"]


def test_a_second_ctrl_c_ends_at_once(clock, interruption):
    running, ends = interruption
    running.on_step_begin(0, [trial()])
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)  # the same one, on another way
    assert ends == []
    clock.seconds += ending.AGAIN_S + 0.1
    os.kill(os.getpid(), signal.SIGINT)
    assert ends == ["end"]


def test_before_the_first_step_nothing_is_waited_for():
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(signal.SIGTERM)
