"""What trials print, with a real Ray: kept in the sweep's storage, told with a failure, and not in the job's log."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from ray import tune

import raysweep
from raysweep.history import log_reader, results, trial_log
from raysweep.loop.executor import Share
from raysweep.loop.ray_executor import RayExecutor
from raysweep.storage import open_storage
from raysweep.trial.run import Run, TrialSpec

X = {"x": tune.uniform(0.0, 1.0)}
LINES = 160_000


@pytest.fixture
def sweep(private_ray, storage):
    """Runs a sweep of two trials, random search with one iteration each, but for what is said."""

    def run(train, strategy="random_search", **more):
        settings = {"metric": "loss", "mode": "min", "samples": 2, "max_iterations": 1, "name": "s", **more}
        return raysweep.run(strategy, train, X, storage=storage, **settings)

    return run


def lines_of(sweep_results, trial):
    return [line for line in sweep_results.logs(trial).splitlines() if not line.startswith("[raysweep: trial")]


def test_it_is_kept_by_trial_and_the_jobs_log_has_a_line_a_result(sweep, capfd):
    def train(config):
        print("x is", config["x"])
        subprocess.run(["sh", "-c", "echo a program"], check=True)
        raysweep.report({"loss": config["x"], "logs": os.fstat(1).st_mode & 0o777})
        print("after the last report")

    found = sweep(train, reuse_actors=False)
    for trial in found.state.trials.values():
        expected = [f"x is {trial.config['x']}", "a program", "after the last report"]
        assert lines_of(found, trial.id) == lines_of(found, int(trial.id)) == expected
        assert trial.last.metrics["logs"] == 0o600
    out, err = capfd.readouterr()
    assert "a program" not in out + err
    told = [line for line in out.splitlines() if not line.startswith("waiting")]  # on a busy machine
    assert len(told) == 2 + 2 + 3, "a beginning, a line for each result, an end"
    assert open_storage(found.url).list("logs") == ["logs/00000.txt", "logs/00001.txt"]


def test_a_sweep_that_prints_nothing_stores_nothing(sweep):
    found = sweep(lambda config: raysweep.report({"loss": config["x"]}), samples=4)
    assert "logs" not in open_storage(found.url).folders()


def test_a_failure_comes_with_the_last_lines(sweep, storage, capfd):
    def train(config):
        for n in range(20):
            print("batch", n)
        raise ValueError("no such layer")

    with pytest.raises(raysweep.SweepFailed) as failed:
        sweep(train, samples=1)
    [trial] = results.read("s", storage).state.trials.values()
    assert trial.printed == [[f"batch {n}" for n in range(10, 20)]]
    end = "".join(f"\n  | batch {n}" for n in range(10, 20))
    pointer = "\n  the last it printed (all: raysweep logs s --trial 0):"
    assert str(failed.value).endswith(f"ValueError: no such layer{pointer}{end}")
    assert f"trial 00000 failed: exception: ValueError: no such layer{pointer}{end}\n" in capfd.readouterr().out


def test_what_a_killed_process_printed_last_is_told_and_kept(sweep):
    def train(config):
        for step in raysweep.iterations():
            print("step", step, flush=True)
            if step == 2 and raysweep.resume() is None:
                print("about to be killed")
                os.kill(os.getpid(), 9)
                time.sleep(60)
            raysweep.report({"loss": config["x"]}, state=step)

    found = sweep(train, samples=1, max_iterations=3)
    [trial] = found.state.trials.values()
    assert (trial.status, trial.kinds) == ("finished", ["lost"])
    assert trial.printed == [["step 1", "step 2", "about to be killed"]]
    assert lines_of(found, 0) == ["step 1", "step 2", "about to be killed", "step 2", "step 3"]
    headers = [line for line in found.logs(0).splitlines() if line.startswith("[raysweep: trial 00000, ")]
    assert [line.partition(": from iteration ")[2][0] for line in headers] == ["1", "2"]
    assert open_storage(found.url).list("logs") == ["logs/00000.txt"], "one text at the end"


def test_a_trial_that_is_killed_at_the_end_of_the_sweep_keeps_its_text(private_ray, storage, tmp_path):
    printed, place = tmp_path / "printed", open_storage(storage)

    def train(config):
        print("in an iteration")
        printed.touch()
        time.sleep(60)

    executor = RayExecutor(TrialSpec(train, place, 1), "s", Share(1.0))
    executor.request_places(1)
    while not executor.has_place:
        executor.wait(1.0)
    executor.start(Run("00000", {}, {}, first=True))
    while not printed.exists():
        time.sleep(0.02)
    executor.close()
    assert bytes(trial_log.read(place, "00000")).splitlines()[1:] == [b"in an iteration"]


def test_a_resumed_sweep_adds_to_the_texts(sweep, tmp_path):
    repaired = str(tmp_path / "repaired")

    def train(config):
        for step in raysweep.iterations():
            print("step", step)
            raysweep.report({"loss": config["x"]}, state=step)
            if not os.path.exists(repaired):  # noqa: PTH110
                raise ValueError("not repaired")

    with pytest.raises(raysweep.SweepFailed):
        sweep(train, samples=1, max_iterations=2)
    Path(repaired).touch()
    found = sweep(train, samples=1, max_iterations=2, resume="must", retry="failed")
    assert lines_of(found, 0) == ["step 1", "step 2"]


def test_every_line_is_shown_in_order_if_that_is_wanted(sweep, capfd):
    def train(config):
        for n in range(LINES):
            print(n)
        raysweep.report({"loss": config["x"]})

    found = sweep(train, samples=1, show_output=True)
    head = "(trial 00000) "
    shown = [line for line in capfd.readouterr().out.splitlines() if line.startswith(head)]
    assert shown == [f"{head}{n}" for n in range(LINES)]
    assert lines_of(found, 0) == [str(n) for n in range(LINES)]


def test_a_killed_process_shows_its_last_lines_too(sweep, capfd):
    def train(config):
        print("before", flush=True)
        if raysweep.resume() is None:
            raysweep.report({"loss": 1.0}, state=1)
            print("about to be killed")
            os.kill(os.getpid(), 9)
            time.sleep(60)
        raysweep.report({"loss": config["x"]})

    found = sweep(train, samples=1, max_iterations=2, show_output=True)
    shown = [line.partition(") ")[2] for line in capfd.readouterr().out.splitlines() if line.startswith("(trial ")]
    printed = lines_of(found, 0)
    assert printed == ["before", "about to be killed", "before"]
    # What a process had just handed over when it was killed, its node may show once more; the text has it once.
    assert set(shown) == set(printed)
    assert len(printed) <= len(shown) <= len(printed) + 2


def test_it_is_followed_while_the_trial_runs(sweep, storage, tmp_path, monkeypatch):
    go = str(tmp_path / "go")

    def train(config):
        print("first")
        while not Path(go).exists():
            time.sleep(0.02)
        print("second")
        raysweep.report({"loss": config["x"]})

    monkeypatch.setattr(trial_log, "AGAIN_S", 1.0)  # of the reader
    running = threading.Thread(target=lambda: sweep(train, samples=1))
    running.start()
    try:
        while not (Path(storage) / "s" / "logs" / "00000.txt").exists():
            time.sleep(0.05)
        text = b""
        for lines in log_reader.follow("s", storage, "00000"):
            text += lines
            if b"first" in text:
                Path(go).touch()
    finally:
        Path(go).touch()
        running.join(60)
    assert text.splitlines()[1:] == [b"first", b"second"]
