"""Progress: one line a result, the best so far, and how long it will take."""

import math
from types import SimpleNamespace

import pytest

from raysweep import progress
from raysweep.failure import Kind
from raysweep.progress import Progress
from raysweep.state import SweepState

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
    """A sweep that tells its state, then the progress, as the callbacks do."""

    def __init__(self, capsys, mode="max", events=()):
        self.capsys, self.state, self.seq = capsys, SweepState(events), len(events)
        self.progress = Progress(self.state, "accuracy", mode, TOTAL, ITERATIONS)

    def event(self, type, **fields):
        self.seq += 1
        self.state.apply({"seq": self.seq, "type": type, **fields})

    def result(self, trial, iteration, value, **config):
        if trial not in self.state.trials:
            self.event("suggest", trial=trial, config=config)
        metrics = {"accuracy": value}
        self.event("result", trial=trial, iteration=iteration, metrics=metrics, checkpoint=None, node="n")
        ray_trial = SimpleNamespace(trial_id=trial, config=config)
        self.progress.on_trial_result(0, [], ray_trial, {**metrics, "training_iteration": iteration})
        return self.capsys.readouterr().out.strip()

    def complete(self, trial, status="finished"):
        self.event("complete", trial=trial, status=status)


def test_a_line_says_trial_iteration_value_best_and_configuration(capsys):
    line = Sweep(capsys).result("00002", 3, 0.123456, lr=0.001234567, head={"act": "relu"})
    assert line == "[0/4 ETA --:--] trial 00002  3/10 accuracy 0.1235 (best 0.1235) lr=0.001235 head/act=relu"


@pytest.mark.parametrize(("mode", "bests"), [("max", ["0.5", "0.5", "0.7"]), ("min", ["0.5", "0.3", "0.3"])])
def test_the_best_is_by_mode(capsys, mode, bests):
    sweep = Sweep(capsys, mode)
    lines = [sweep.result("00000", n, value) for n, value in enumerate((0.5, 0.3, 0.7), start=1)]
    assert [f"(best {best})" in line for best, line in zip(bests, lines, strict=True)] == [True] * 3


def test_what_is_no_number_is_shown_and_never_the_best(capsys):
    sweep = Sweep(capsys)
    assert "accuracy nan (best -)" in sweep.result("00000", 1, math.nan)
    assert "accuracy 0.5 (best 0.5)" in sweep.result("00000", 2, 0.5)
    assert "accuracy nan (best 0.5)" in sweep.result("00000", 3, math.nan)
    assert "accuracy inf (best 0.5)" in sweep.result("00000", 4, math.inf)
    assert "accuracy None (best 0.5)" in sweep.result("00000", 5, None)


@pytest.mark.parametrize(("mode", "bests"), [("max", ["0.9", "0.95"]), ("min", ["0.2", "0.2"])])
def test_the_best_of_earlier_runs_counts_after_a_resume(capsys, mode, bests):
    sweep = Sweep(capsys, mode, events=EARLIER)
    lines = [sweep.result("00001", n, value) for n, value in enumerate((0.2, 0.95), start=1)]
    assert [f"(best {best})" in line for best, line in zip(bests, lines, strict=True)] == [True] * 2


def test_an_earlier_run_without_a_number_leaves_no_best(capsys):
    nothing = [EARLIER[0], {**EARLIER[1], "metrics": {"accuracy": math.nan}}]
    assert "(best -)" in Sweep(capsys, events=nothing).result("00000", 2, math.nan)


def test_there_is_no_estimate_before_three_results(capsys, clock):
    sweep = Sweep(capsys)
    for n in (1, 2):
        clock.seconds += 10
        assert "ETA --:--]" in sweep.result("00000", n, 0.5)
    clock.seconds += 10
    # 3 of 4 x 10 results took 30 s: 37 are left at 10 s each.
    assert "[0/4 ETA 06:10]" in sweep.result("00000", 3, 0.5)


def test_trials_to_come_cost_what_the_ended_ones_cost(capsys, clock):
    sweep = Sweep(capsys)
    for n in (1, 2):
        clock.seconds += 10
        sweep.result("00000", n, 0.5)
    sweep.complete("00000", "stopped")
    clock.seconds += 10
    # Trials end after 2 results: 8 in all, 3 done in 30 s.
    assert "[1/4 ETA 00:50]" in sweep.result("00001", 1, 0.5)


def test_an_estimate_counts_this_run_only(capsys, clock):
    sweep = Sweep(capsys, events=EARLIER)
    for n in range(1, 3):
        clock.seconds += 20
        sweep.result(f"0000{n}", 1, 0.5)
        sweep.complete(f"0000{n}")
    clock.seconds += 20
    # 3 trials of 1 result each were left, and the third has just reported.
    assert "[3/4 ETA 00:00]" in sweep.result("00003", 1, 0.5)


def test_failures_are_shown_with_their_last_line(capsys, tmp_path):
    sweep = Sweep(capsys)
    path = tmp_path / "error.txt"
    path.write_text("Traceback (most recent call last):\n  line\nValueError: no such layer\n")
    failed = SimpleNamespace(trial_id="00001", error_file=str(path), kind=Kind.EXCEPTION, infeasible=False)
    sweep.progress.on_trial_recover(0, [], failed)
    sweep.progress.on_trial_error(0, [], failed)
    assert capsys.readouterr().out.splitlines() == [
        "[0/4 ETA --:--] trial 00001 starts again after exception: ValueError: no such layer",
        "[0/4 ETA --:--] trial 00001 failed: exception: ValueError: no such layer",
    ]


def test_a_failure_without_a_traceback_is_shown(capsys):
    full = SimpleNamespace(trial_id="00001", error_file=None, kind=Kind.GPU_MEMORY, infeasible=True)
    Sweep(capsys).progress.on_trial_error(0, [], full)
    assert "is infeasible: gpu memory: no error was recorded" in capsys.readouterr().out
