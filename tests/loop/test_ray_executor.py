"""What only a real cluster shows of a sweep: processes that trials share, clean-up, and values that travel to them."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ray import tune

import raysweep
from raysweep.history import checkpoint, results
from raysweep.loop.failures import MOST_LOSSES
from raysweep.storage import open_storage
from tests.waiting import PATIENCE_S, until

X = {"x": tune.uniform(0.0, 1.0)}


def wait_for(file):
    until(Path(file).exists, f"{file} does not come")


@pytest.fixture
def sweep(private_ray, storage):
    """Runs a sweep of three trials, random search with one iteration each, but for what is said."""

    def run(train, space=None, strategy="random_search", **more):
        settings = {"metric": "loss", "mode": "min", "samples": 3, "max_iterations": 1, "name": "s", **more}
        return raysweep.run(strategy, train, space or X, storage=storage, **settings)

    return run


def status(sweep_results):
    return [trial.status for trial in sweep_results.state.trials.values()]


# Clean-up.


@pytest.mark.parametrize("strategy", ["asha", "pbt"])
def test_a_function_that_cleans_up_for_long_loses_no_trial(sweep, strategy):
    def train(config):
        try:
            for _ in raysweep.iterations():
                raysweep.report({"loss": config["x"]}, state=1)
        finally:
            time.sleep(5.5)  # more than Ray Tune, and this kit before, waited for

    sweep_results = sweep(train, strategy=strategy, samples=4, max_iterations=3)
    assert len(sweep_results.state.trials) == 4
    assert set(status(sweep_results)) <= {"finished", "stopped"}
    assert not any(trial.failures for trial in sweep_results.state.trials.values())


def test_the_next_trial_gets_another_process_while_one_cleans_up(sweep, tmp_path):
    second = str(tmp_path / "second")

    def stopped(config):
        try:
            while True:
                raysweep.report({"loss": float("nan") if config["x"] < 0.5 else config["x"], "process": os.getpid()})
        finally:
            if config["x"] < 0.5:
                wait_for(second)
            else:
                Path(second).touch()

    points = [{"x": 0.1}, {"x": 0.9}]
    sweep_results = sweep(stopped, samples=2, concurrency=1, points=points, max_iterations=2)
    assert status(sweep_results) == ["stopped", "finished"]
    first, last = (trial.last.metrics["process"] for trial in sweep_results.state.trials.values())
    assert first != last


def test_a_function_that_does_not_end_its_clean_up_is_ended(sweep):
    def train(config):
        try:
            while True:
                raysweep.report({"loss": float("nan")})
        finally:
            time.sleep(1000)

    sweep_results = sweep(train, samples=2, cleanup_timeout=0.5, max_iterations=2)
    assert status(sweep_results) == ["stopped", "stopped"]


def test_a_report_during_clean_up_neither_hangs_nor_saves(sweep):
    def train(config):
        try:
            for _ in range(5):
                raysweep.report({"loss": config["x"]}, state="in time")
        finally:
            with contextlib.suppress(BaseException):
                raysweep.report({"loss": 0.0}, state="too late")

    sweep_results = sweep(train, max_iterations=2)
    assert status(sweep_results) == ["finished"] * 3
    for trial in sweep_results.state.trials.values():
        saved = checkpoint.verified(open_storage(sweep_results.url), trial.id)
        assert [each.iteration for each in saved] == [1, 2]


def test_a_function_that_catches_every_exception_does_not_hang_the_sweep(sweep):
    def train(config):
        while True:
            with contextlib.suppress(BaseException):
                raysweep.report({"loss": config["x"]})

    assert status(sweep(train, max_iterations=2)) == ["finished"] * 3


# Code after the loop.


def test_code_after_the_last_iteration_runs(sweep, tmp_path):
    folder = str(tmp_path)

    def train(config):
        for _ in raysweep.iterations():
            raysweep.report({"loss": config["x"]})
        Path(folder, f"{config['x']}").touch()

    sweep_results = sweep(train, max_iterations=2)
    assert status(sweep_results) == ["finished"] * 3
    assert {file.name for file in tmp_path.iterdir()} >= {
        f"{t.config['x']}" for t in sweep_results.state.trials.values()
    }


def test_code_after_the_last_iteration_may_fail_its_trial(sweep):
    def train(config):
        for _ in raysweep.iterations():
            raysweep.report({"loss": config["x"]})
        raise OSError("the upload was refused")

    with pytest.raises(raysweep.SweepFailed, match="the upload was refused"):
        sweep(train, max_iterations=2)


def test_code_after_the_last_iteration_is_tried_again_without_any_iteration(sweep, tmp_path):
    tries = str(tmp_path / "tries")

    def train(config):
        for iteration in raysweep.iterations():
            raysweep.report({"loss": config["x"]}, state=iteration)
        with Path(tries).open("a") as file:
            file.write(".")
        if Path(tries).stat().st_size < 3:
            raise OSError("the upload was refused")

    sweep_results = sweep(train, samples=1, max_iterations=2, max_failures=2)
    [trial] = sweep_results.state.trials.values()
    assert (trial.status, trial.kinds, sorted(trial.results)) == ("finished", ["exception"] * 2, [1, 2])


# The end of a trial's process.


def exits(config):
    os._exit(3)


def exits_in_another_thread(config):
    threading.Thread(target=exits, args=(config,), daemon=True).start()
    time.sleep(PATIENCE_S)


def crashes(config):
    ctypes.string_at(0)


def kills_itself(config):
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(PATIENCE_S)


def is_terminated(config):
    time.sleep(0.5)  # until the main thread waits, which alone handles signals
    (signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM), time.sleep(PATIENCE_S))


def is_killed(config):
    subprocess.run(["kill", "-KILL", str(os.getpid())], check=True)
    time.sleep(PATIENCE_S)


def runs_for_ever(config):
    time.sleep(PATIENCE_S)


LOSSES = ["lost"] * (MOST_LOSSES + 1)


@pytest.mark.parametrize(
    ("train", "kinds", "text"),
    [
        (exits, ["exception"], "the training function called os._exit(3) at {}, in exits: return from it instead"),
        (exits_in_another_thread, ["exception"], "ended by itself, with os._exit(3) at {}, in exits; Ray's log of"),
        (crashes, LOSSES, "the trial's process was ended by SIGSEGV at {}, in crashes; Ray's log of it is /tmp/"),
        (kills_itself, LOSSES, "the trial's process was ended by itself, with SIGKILL at {}, in kills_itself; "),
        (is_terminated, LOSSES, "the trial's process was ended by SIGTERM at {}, in is_terminated; "),
        (is_killed, LOSSES, "the trial's process was ended from outside, and it left no word: usually by SIGKILL"),
    ],
)
def test_the_end_of_a_process_is_told_with_the_line(sweep, storage, train, kinds, text):
    with pytest.raises(raysweep.SweepFailed):
        sweep(train, samples=1)
    [trial] = results.read("s", storage).state.trials.values()
    assert trial.kinds == kinds
    code = exits.__code__ if "exits" in train.__name__ else train.__code__
    line = code.co_firstlineno + (2 if train is is_terminated else 1)
    assert text.format(f"{__file__}, line {line}") in trial.failures[-1].splitlines()[-1]


def test_where_a_trial_hung_when_its_time_was_up_is_told(sweep, storage):
    with pytest.raises(raysweep.SweepFailed):
        sweep(runs_for_ever, samples=1, trial_timeout=1.0)
    [trial] = results.read("s", storage).state.trials.values()
    assert trial.kinds == ["timeout"]
    at = f"{__file__}, line {runs_for_ever.__code__.co_firstlineno + 1}, in runs_for_ever"
    assert f"the trial had used up --trial-timeout, so its process was ended at {at}; " in trial.failures[0]


def test_the_end_of_a_forked_child_is_not_that_of_the_trial(sweep):
    def train(config):
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=target) for target in (lambda: ctypes.string_at(0), time.sleep)]
        for child in children:
            child.start()
        children[1].terminate()
        for child in children:
            child.join()
        raysweep.report({"loss": children[0].exitcode})

    sweep_results = sweep(train, samples=1)
    assert [trial.last.metrics["loss"] for trial in trials(sweep_results)] == [-signal.SIGSEGV]
    assert status(sweep_results) == ["finished"]


# Ordinary spaces.


def double(value):
    return 2 * value


class Squared:
    def __call__(self, value):
        return value**2


def test_a_parameter_may_be_a_function_of_another(sweep):
    space = {"x": tune.uniform(0.0, 1.0), "y": tune.sample_from(lambda spec: spec.config.x * 2)}

    def train(config):
        raysweep.report({"loss": config["y"] - 2 * config["x"]})

    assert {trial.last.metrics["loss"] for trial in sweep(train, space).state.trials.values()} == {0.0}


@pytest.mark.parametrize("strategy", ["random_search", "tpe_asha", "grid"])
def test_a_choice_may_be_of_anything(sweep, strategy):
    import torch

    choices = {
        "functions": [double, np.sqrt],
        "classes": [Squared, dict],
        "paths": [Path("a"), Path("b")],
        "torch": [torch.float32, torch.float64],
        "numbers": [np.float32(0.5), np.int64(3)],
        "arrays": [np.arange(3), np.ones(4)],
        "tuples": [(64, 64), (128,)],
        "none": [None, True],
        "dictionaries": [{"a": 1}, {"a": (1, 2)}],
        "keys": [{(1, 2): 3}, {(1, 2): 4}],
    }
    if strategy == "grid":  # of which each two choices double the trials
        choices = {name: choices[name] for name in ("functions", "arrays")}

    def train(config):
        for name, value in config.items():
            assert any(str(value) == str(each) and type(value) is type(each) for each in choices[name]), name
        raysweep.report({"loss": float(config["functions"](4.0)) + config["arrays"].sum()})

    space = {name: tune.choice(each) for name, each in choices.items()}
    sweep_results = sweep(train, space, strategy, samples=1 if strategy == "grid" else 4)
    assert set(status(sweep_results)) <= {"finished", "stopped"}
    assert {trial.last.metrics["loss"] for trial in sweep_results.state.trials.values()} <= {11.0, 12.0, 5.0, 6.0}


# What belongs to a trial alone.


def test_a_trials_configuration_is_its_own(sweep):
    def train(config):
        for _ in raysweep.iterations():
            config["opt"].pop("lr", None)
            config["list"].append(1)
            raysweep.report({"loss": len(config["list"])}, state=1)

    space = {"opt": {"lr": tune.uniform(0.0, 1.0), "name": "sgd"}, "list": []}
    sweep_results = sweep(train, space, max_iterations=2)
    for trial in sweep_results.state.trials.values():
        assert set(trial.config["opt"]) == {"lr", "name"}
        assert trial.config["list"] == []
        assert [result.metrics["loss"] for result in trial.results.values()] == [1, 2]
    assert {"config/opt/lr", "config/opt/name"} <= set(sweep_results.table.columns)


def test_data_that_one_trial_changes_are_not_seen_by_the_next(sweep):
    data = {"list": [1], "frame": pd.DataFrame({"a": [1.0, 2.0]}), "array": np.ones(4)}

    def train(config, data):
        data["list"].append(2)
        data["frame"]["b"] = 0.0
        raysweep.report({
            "loss": len(data["list"]), "columns": len(data["frame"].columns), "own": data["array"].flags.writeable
        })  # fmt: skip

    sweep_results = sweep(train, data=data, samples=6)
    seen = [(t.last.metrics["loss"], t.last.metrics["columns"], t.last.metrics["own"]) for t in trials(sweep_results)]
    assert seen == [(2, 2, False)] * 6


def trials(sweep_results):
    return list(sweep_results.state.trials.values())


# One trial's report.


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": 1 + 2j},
        {"loss": 10**400},
        {"loss": "low"},
        {"loss": 1.0, "name": "\ud800"},
        {"loss": 1.0, 7: 1.0},
        {"loss": 1.0, "training_iteration": 3},
        {"loss": 1.0, "frame": pd.DataFrame()},
        ["loss", 1.0],
    ],
    ids=lambda wrong: ascii(wrong)[:30],
)
def test_an_invalid_report_fails_only_its_own_trial(sweep, storage, wrong):
    def train(config):
        raysweep.report(wrong if config["x"] == 0.5 else {"loss": config["x"]})

    with pytest.raises(raysweep.SweepFailed, match="1 trials failed; the first, trial 00001"):
        sweep(train, points=[{"x": 0.1}, {"x": 0.5}, {"x": 0.2}])
    stored = results.read("s", storage)
    assert status(stored) == ["finished", "failed", "finished"]
    assert stored.best["trial"] == "00000"


def test_a_metric_may_have_the_name_of_a_column(sweep):
    def train(config):
        raysweep.report({"loss": config["x"], "status": 3, "checkpoint": 4, "config": 5, "done": 6, "node": 7})

    sweep_results = sweep(train)
    assert list(sweep_results.table["status"]) == ["finished"] * 3
    assert sweep_results.state.trials["00000"].last.metrics["done"] == 6


def test_a_trial_without_any_value_of_the_metric_has_failed(sweep):
    def train(config):
        for epoch in raysweep.iterations():
            raysweep.report({"other": 1.0} | ({"loss": config["x"]} if config["x"] < 0.5 and epoch == 2 else {}))

    with pytest.raises(raysweep.SweepFailed, match="no report of it had `loss`; the last one had other"):
        sweep(train, points=[{"x": 0.1}, {"x": 0.9}], samples=2, max_iterations=3)


# The process around a sweep.


def test_a_sweep_runs_outside_of_the_main_thread(sweep):
    def train(config):
        raysweep.report({"loss": config["x"]})

    sweep_results = []
    thread = threading.Thread(target=lambda: sweep_results.append(sweep(train)))
    thread.start()
    thread.join(PATIENCE_S)
    assert status(sweep_results[0]) == ["finished"] * 3


def test_a_process_that_cannot_start_fails_its_trials_and_is_not_retried_for_ever(private_ray, sweep):
    class Travels:
        def __reduce__(self):
            return (arrive, ())

    luggage = Travels()

    def train(config):
        raysweep.report({"loss": float(luggage is None)})

    with pytest.raises(raysweep.SweepFailed, match="lost on the way"):
        sweep(train)


def arrive():
    raise RuntimeError("lost on the way")
