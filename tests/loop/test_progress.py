"""Progress: one line for each result, with the best so far and the estimated time."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from raysweep.history.sweep_state import SweepState
from raysweep.loop import progress
from raysweep.loop.progress import CONFIG_WIDTH, Progress

TOTAL, ITERATIONS = 4, 10
RESULT = {"trial": "00000", "iteration": 1, "metrics": {"accuracy": 0.9}, "checkpoint": None, "node": "n"}
EARLIER = [
    {"seq": 1, "type": "suggest", "trial": "00000", "config": {}},
    {"seq": 2, "type": "result", **RESULT},
    {"seq": 3, "type": "complete", "trial": "00000", "status": "finished"},
]


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.seconds)
    return now


class Sweep:
    """A sweep that updates its state, then notifies the progress, as the loop does."""

    def __init__(self, capsys, mode="max", events=()):
        self.capsys, self.state, self.seq = capsys, SweepState(events), len(events)
        self.progress = Progress(self.state, "accuracy", mode, TOTAL, ITERATIONS)
        self.progress.begin()

    def event(self, type, **fields):
        self.seq += 1
        self.state.apply({"seq": self.seq, "type": type, **fields})
        return self.state.trials[fields["trial"]]

    def said(self):
        return self.capsys.readouterr().out.strip()

    def result(self, trial, iteration, value, changed=None, **config):
        if trial not in self.state.trials:
            self.event("suggest", trial=trial, config=config)
        metrics, more = {"accuracy": value}, {"config": changed} if changed else {}
        record = self.event(
            "result", trial=trial, iteration=iteration, metrics=metrics, checkpoint=None, node="n", **more
        )
        self.progress.reported(record, record.last)
        return self.said()

    def fail(self, trial, error, kind, again):
        if trial not in self.state.trials:
            self.event("suggest", trial=trial, config={})
        self.progress.failed(self.event("failure", trial=trial, error=error, kind=kind), again)
        return self.said()

    def complete(self, trial, status="finished"):
        if trial not in self.state.trials:
            self.event("suggest", trial=trial, config={})
        self.progress.ended(self.event("complete", trial=trial, status=status))
        return self.said()

    def wait(self, clock, seconds, since=0):
        """A wait of so many seconds, reported each second."""
        for second in range(since + 1, seconds + 1):
            clock.seconds += 1
            self.progress.waited(float(second), "2 trials of other jobs hold\nall 4 CPUs")
        return self.said().splitlines()


def test_a_line_says_trial_iteration_value_best_and_configuration(capsys):
    line = Sweep(capsys).result("00002", 3, 0.123456, lr=0.001234567, head={"act": "relu"})
    assert line == "[0/4 ETA --:--] trial 00002  3/10 accuracy 0.1235 (best 0.1235) lr=0.001235 head/act=relu"


def test_the_configuration_is_the_one_that_the_result_was_made_with(capsys):
    sweep = Sweep(capsys)
    assert sweep.result("00000", 1, 0.5, lr=1).endswith(" lr=1")
    assert sweep.result("00000", 2, 0.5, changed={"lr": 2}).endswith(" lr=2")
    record = sweep.state.trials["00000"]
    sweep.progress.reported(record, record.results[1])
    assert sweep.said().endswith(" lr=1")


@pytest.mark.parametrize(("mode", "bests"), [("max", ["0.5", "0.5", "0.7"]), ("min", ["0.5", "0.3", "0.3"])])
def test_the_best_is_by_mode(capsys, mode, bests):
    sweep = Sweep(capsys, mode)
    lines = [sweep.result("00000", n, value) for n, value in enumerate((0.5, 0.3, 0.7), start=1)]
    assert [f"(best {best})" in line for best, line in zip(bests, lines, strict=True)] == [True] * 3


def test_values_that_are_not_numbers_are_shown_but_never_the_best(capsys):
    sweep = Sweep(capsys)
    assert "accuracy nan (best -)" in sweep.result("00000", 1, math.nan)
    assert "accuracy 0.5 (best 0.5)" in sweep.result("00000", 2, 0.5)
    assert "accuracy nan (best 0.5)" in sweep.result("00000", 3, math.nan)
    assert "accuracy inf (best 0.5)" in sweep.result("00000", 4, math.inf)
    assert "accuracy None (best 0.5)" in sweep.result("00000", 5, None)
    assert "accuracy good (best 0.5)" in sweep.result("00000", 6, "good")
    assert "000… (best 0.5)" in sweep.result("00000", 7, 10**400)
    assert "accuracy True (best True)" in sweep.result("00000", 8, True)


@pytest.mark.parametrize(("mode", "bests"), [("max", ["0.9", "0.95"]), ("min", ["0.2", "0.2"])])
def test_the_best_of_earlier_runs_counts_after_a_resume(capsys, mode, bests):
    sweep = Sweep(capsys, mode, events=EARLIER)
    lines = [sweep.result("00001", n, value) for n, value in enumerate((0.2, 0.95), start=1)]
    assert [f"(best {best})" in line for best, line in zip(bests, lines, strict=True)] == [True] * 2


def test_an_earlier_run_without_a_number_leaves_no_best(capsys):
    nothing = [EARLIER[0], {**EARLIER[1], "metrics": {"accuracy": math.nan}}]
    assert "(best -)" in Sweep(capsys, events=nothing).result("00000", 2, math.nan)


class Rude:
    def __str__(self):
        raise RuntimeError("not now")


def test_long_and_odd_values_of_a_configuration_take_a_part_of_one_line(capsys):
    line = Sweep(capsys).result(
        *("00000", 1, 0.5),
        image=np.ones((50, 50)),
        layers=list(range(10**6)),
        text="a\nb" * 10**6,
        seed=10**3000,
        digits=10**5000,
        act=len,
        rude=Rude(),
        widths=[32, 64],
    )
    assert "\n" not in line
    assert len(line) < 500
    shown = dict(part.split("=", 1) for part in line.replace(", ", ",").split() if "=" in part)
    assert (shown["layers"][:7], shown["layers"][-1]) == ("[0,1,2,", "…")
    assert (shown["digits"], shown["rude"], shown["widths"]) == ("<int>", "<Rude>", "[32,64]")


def test_a_configuration_of_many_parameters_is_cut(capsys):
    line = Sweep(capsys).result("00000", 1, 0.5, **{f"x{n}": n for n in range(1000)})
    assert (line[-2:], len(line) < CONFIG_WIDTH + 100) == (" …", True)


def test_there_is_no_estimate_before_three_results(capsys, clock):
    sweep = Sweep(capsys)
    for n in (1, 2):
        clock.seconds += 10
        assert "ETA --:--]" in sweep.result("00000", n, 0.5)
    clock.seconds += 10
    # 3 of 4 x 10 results took 30 s: 37 are left at 10 s each.
    assert "[0/4 ETA 06:10]" in sweep.result("00000", 3, 0.5)


def test_the_clock_of_the_estimate_starts_with_the_loop(capsys, clock):
    sweep = Sweep(capsys)
    clock.seconds += 1000  # a cluster comes up
    sweep.progress.begin()
    for n in (1, 2, 3):
        clock.seconds += 10
        line = sweep.result("00000", n, 0.5)
    assert "[0/4 ETA 06:10]" in line


def test_the_estimate_assumes_that_new_trials_take_as_long_as_the_ended_ones(capsys, clock):
    sweep = Sweep(capsys)
    for n in (1, 2):
        clock.seconds += 10
        sweep.result("00000", n, 0.5)
    sweep.complete("00000", "stopped")
    clock.seconds += 10
    # Trials end after 2 results: 8 in all, 3 done in 30 s.
    assert "[1/4 ETA 00:50]" in sweep.result("00001", 1, 0.5)


def test_a_trial_that_failed_at_once_does_not_change_the_estimate(capsys, clock):
    sweep = Sweep(capsys)
    assert "[1/4 ETA --:--]" in sweep.complete("00000", "failed")
    clock.seconds += 10
    # One of 40 results took 10 s.
    assert "[1/4 ETA 06:30]" in sweep.result("00001", 1, 0.5)


def test_an_estimate_counts_this_run_only(capsys, clock):
    sweep = Sweep(capsys, events=EARLIER)
    for n in range(1, 3):
        clock.seconds += 20
        sweep.result(f"0000{n}", 1, 0.5)
        sweep.complete(f"0000{n}")
    clock.seconds += 20
    # 3 trials of 1 result each were left, and the third has just reported.
    assert "[3/4 ETA 00:00]" in sweep.result("00003", 1, 0.5)


def test_a_line_does_not_look_at_all_trials(capsys, monkeypatch):
    sweep = Sweep(capsys)
    for n in range(3):
        sweep.result(f"{n:05d}", 1, 0.5)
        sweep.complete(f"{n:05d}")

    class Untouched(dict):
        def _refuse(self):
            raise AssertionError("a line costs as much as there are trials")

        values = items = keys = __iter__ = _refuse

    sweep.event("suggest", trial="00003", config={})
    sweep.state.trials = Untouched(sweep.state.trials)
    assert "[3/4 ETA" in sweep.result("00003", 1, 0.5)
    assert "[3/4 ETA" in sweep.fail("00003", "killed", "lost", again=True)
    assert "[4/4 ETA" in sweep.complete("00003", "failed")


TRACEBACK = "Traceback (most recent call last):\n  line\nValueError: no such layer\n"


def test_failures_are_shown_with_their_last_line(capsys):
    sweep = Sweep(capsys)
    again = sweep.fail("00001", TRACEBACK, "exception", again=True)
    assert again == "[0/4 ETA --:--] trial 00001 starts again after exception: ValueError: no such layer"
    assert sweep.fail("00001", TRACEBACK, "exception", again=False) == ""
    ended = sweep.complete("00001", "failed")
    assert ended == "[1/4 ETA --:--] trial 00001 failed: exception: ValueError: no such layer"


@pytest.mark.parametrize("status", ["finished", "stopped"])
def test_a_trial_that_did_not_fail_ends_without_a_line(capsys, status):
    assert Sweep(capsys).complete("00001", status) == ""


def test_a_failure_without_a_traceback_is_shown(capsys):
    sweep = Sweep(capsys)
    sweep.fail("00001", "", "gpu_memory", again=False)
    assert "is infeasible: gpu memory: no error was recorded" in sweep.complete("00001", "infeasible")
    assert "00002 is infeasible: no error was recorded" in sweep.complete("00002", "infeasible")


def test_a_long_error_is_cut(capsys):
    line = Sweep(capsys).fail("00001", "word " * 1000, "lost", again=True)
    assert (line[-1], len(line) < 240) == ("…", True)


def test_a_wait_is_printed_after_ten_seconds_and_then_each_minute(capsys, clock):
    lines = Sweep(capsys).wait(clock, 140)
    why = "2 trials of other jobs hold all 4 CPUs"
    assert lines == [f"waiting for a place for {seconds} s: {why}" for seconds in (10, 70, 130)]


def test_each_wait_is_printed_separately(capsys, clock):
    sweep = Sweep(capsys)
    assert len(sweep.wait(clock, 12)) == 1
    clock.seconds += 5
    sweep.result("00000", 1, 0.5)
    assert sweep.wait(clock, 9) == []
    assert [line.split(":")[0] for line in sweep.wait(clock, 11, since=9)] == ["waiting for a place for 10 s"]


def test_an_estimate_leaves_out_the_time_in_which_no_trial_ran(capsys, clock):
    sweep = Sweep(capsys)
    sweep.wait(clock, 40)
    for n in (1, 2, 3):
        clock.seconds += 10
        if n == 2:
            sweep.wait(clock, 50)  # a longer one, which begins after the first has ended
        line = sweep.result("00000", n, 0.5)
    # 3 of 40 results took 30 s of 120.
    assert "[0/4 ETA 06:10]" in line


def test_a_wait_that_goes_on_after_a_trial_has_ended_counts_once(capsys, clock):
    sweep = Sweep(capsys)
    sweep.wait(clock, 20)
    sweep.complete("00001", "stopped")
    sweep.wait(clock, 40, since=20)
    for n in (1, 2, 3):
        clock.seconds += 10
        line = sweep.result("00000", n, 0.5)
    assert "[1/4 ETA 06:10]" in line


def test_a_failure_comes_with_the_last_lines_that_the_trial_printed(capsys):
    sweep = Sweep(capsys)
    sweep.event("suggest", trial="00002", config={})
    record = sweep.event("failure", trial="00002", error="E: no", kind="exception", printed=["batch 1", "batch 2"])
    sweep.progress.failed(record, again=True)
    end = "E: no\n  the last it printed (all: raysweep logs NAME --trial 2):\n  | batch 1\n  | batch 2"
    assert sweep.said().endswith(end)
    sweep.progress.failed(sweep.event("failure", trial="00002", error="E: no", kind="exception"), again=True)
    assert sweep.said().endswith("E: no"), "a journal of before has none"
