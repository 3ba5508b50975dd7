"""optuna.log: the sweep as a study that Optuna and its dashboard open."""

import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import tune

from raysweep.history import optuna_export as study_module
from raysweep.history.optuna_export import study_log
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import SweepState
from raysweep.spec.space import describe

SPACE = {"lr": "", "depth": "", "head/act": ""}


def results(metrics=("loss",), modes=("min",), trials=()):
    """A sweep of trials: (status, config, values of the metrics at each iteration)."""
    events = []
    for n, (status, config, values) in enumerate(trials):
        trial = f"{n:05d}"
        events.append({"type": "suggest", "trial": trial, "config": config})
        for iteration, row in enumerate(values, start=1):
            told = dict(zip(metrics, row if isinstance(row, tuple) else (row,), strict=True))
            events.append(
                {
                    "type": "result",
                    "trial": trial,
                    "iteration": iteration,
                    "metrics": told,
                    "checkpoint": None,
                    "node": "n",
                }
            )
        if status:
            events.append({"type": "complete", "trial": trial, "status": status})
    state = SweepState({"seq": n, **event} for n, event in enumerate(events, start=1))
    return SweepResults("runs/mine", {"name": "mine", "metrics": metrics, "modes": modes, "space": SPACE}, state)


def config(lr=0.1, depth=1, act="relu"):
    return {"lr": lr, "depth": depth, "head": {"act": act}, "epochs": 3}


TRIALS = [
    ("finished", config(0.001, 1), [3.0, 2.0, 1.0]),
    ("stopped", config(0.1, 5, "gelu"), [5.0, 4.0]),
    ("failed", config(0.01, 2), [2.5]),
    ("finished", config(0.01, 2), [2.5, math.nan]),
    ("stopped", config(0.01, 2), []),
    (None, config(0.01, 2), [0.1]),
]


@pytest.fixture
def opened(tmp_path):
    """A study log, written to a file and opened as users do."""

    def open_log(found):
        path = tmp_path / "optuna.log"
        path.write_bytes(study_log(found))
        return JournalStorage(JournalFileBackend(str(path)))

    return open_log


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_study_has_the_states_values_and_steps(opened):
    storage = opened(results(trials=TRIALS))
    study = optuna.load_study(study_name="mine", storage=storage)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "FAIL", "PRUNED", "PRUNED"]
    assert [trial.values for trial in study.trials] == [[1.0], [4.0], None, None, None]
    assert study.trials[0].intermediate_values == {1: 3.0, 2: 2.0, 3: 1.0}
    assert study.trials[1].params == {"lr": 0.1, "depth": 5, "head/act": "gelu"}
    assert [trial.user_attrs["trial"] for trial in study.trials] == [f"{n:05d}" for n in range(5)]
    assert (study.direction.name, study.metric_names) == ("MINIMIZE", ["loss"])
    assert study.best_trial.number == 0


def test_an_axis_holds_all_values_that_were_tried(opened):
    study = optuna.load_study(study_name="mine", storage=opened(results(trials=TRIALS)))
    axes = study.trials[0].distributions
    assert (axes["lr"].low, axes["lr"].high, axes["lr"].log) == (0.001, 0.1, True)
    assert (axes["depth"].low, axes["depth"].high) == (1, 5)
    assert axes["head/act"].choices == ("gelu", "relu")


def test_what_optuna_has_no_choices_for_is_shown_as_text(opened):
    found = results(trials=[("finished", config(act=act), [1.0]) for act in ([32], (64, 64), len, np.int64(3), "relu")])
    study = optuna.load_study(study_name="mine", storage=opened(found))
    choices = ["[32]", "[64, 64]", "<built-in function len>", 3, "relu"]
    assert [trial.params["head/act"] for trial in study.trials] == choices
    assert set(study.trials[0].distributions["head/act"].choices) == set(choices)


def test_constants_are_no_parameters(opened):
    found = results(trials=TRIALS)
    found.spec["space"] = describe({"lr": tune.uniform(0.0, 1.0), "epochs": 3})
    study = optuna.load_study(study_name="mine", storage=opened(found))
    assert set(study.trials[0].params) == {"lr"}


def test_several_metrics_are_several_directions(opened):
    trials = [
        ("finished", config(0.1), [(0.5, 9.0), (0.9, 10.0)]),
        ("stopped", config(0.2), [(0.8, 5.0)]),
        ("finished", config(0.3), [(0.7, math.nan)]),
    ]
    found = results(("accuracy", "seconds"), ("max", "min"), trials)
    study = optuna.load_study(study_name="mine", storage=opened(found))
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert [(t.state.name, t.values) for t in study.trials] == [
        ("COMPLETE", [0.9, 10.0]),
        ("PRUNED", None),
        ("PRUNED", None),
    ]


def test_a_sweep_without_trials_is_a_study_without_trials(opened):
    assert optuna.load_study(study_name="mine", storage=opened(results())).trials == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::optuna.exceptions.ExperimentalWarning")
def test_the_dashboard_shows_the_study(opened):
    from optuna_dashboard import wsgi

    app = wsgi(opened(results(trials=TRIALS)))
    status = []
    environment = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/api/studies",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
    }
    body = b"".join(app(environment, lambda line, headers, error=None: status.append(line)))
    assert status == ["200 OK"]
    [study] = json.loads(body)["study_summaries"]
    assert (study["study_name"], study["directions"]) == ("mine", ["minimize"])


def test_the_lines_are_those_that_optunas_file_backend_writes(tmp_path):
    written = study_log(results(trials=TRIALS))
    backend = JournalFileBackend(str(tmp_path / "same.log"))
    backend.append_logs([json.loads(line) for line in written.splitlines()])
    assert (tmp_path / "same.log").read_bytes() == written


def test_nothing_waits_for_the_disk(monkeypatch):
    # Optuna's own file backend syncs, and takes a lock, twice a trial: most of the time that an export took.
    refused = []
    for name in ("fsync", "symlink", "rename"):
        monkeypatch.setattr(os, name, lambda *args, name=name: refused.append(name))
    study_log(results(trials=TRIALS))
    assert refused == []


def test_a_study_grows_by_one_line_a_trial():
    lines = [len(study_log(results(trials=TRIALS[:1] * n)).splitlines()) for n in (10, 20)]
    assert lines[1] - lines[0] == 10


def test_a_parameter_of_one_choice_a_trial_is_an_attribute(opened):
    """Each trial's line names all choices of each parameter."""
    texts = [f"{n:03d}-{'x' * 20}" for n in range(200)]
    found = results(trials=[("finished", config(act=text), [1.0]) for text in texts])
    trials = optuna.load_study(study_name="mine", storage=opened(found)).trials
    assert [set(trial.params) for trial in trials] == [{"lr", "depth"}] * 200
    assert [trial.user_attrs["config/head/act"] for trial in trials] == texts
    assert max(map(len, study_log(found).splitlines())) < 2000


def test_odd_numbers_are_choices(opened):
    odd = [0.5, math.inf, 2**70, None, True]
    found = results(trials=[("finished", config(lr=value), [1.0]) for value in odd])
    trials = optuna.load_study(study_name="mine", storage=opened(found)).trials
    assert [trial.params["lr"] for trial in trials] == odd


def test_a_list_of_objects_of_odd_keys_is_shown_as_text(opened):
    found = results(trials=[("finished", config(act=[{("a", 1): 2}]), [1.0])])
    [trial] = optuna.load_study(study_name="mine", storage=opened(found)).trials
    assert json.loads(trial.params["head/act"]) == [{"('a', 1)": 2}]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_value_that_was_reported_now_and_then_only_is_the_final_one(opened):
    found = results(trials=[("finished", config(), [2.0, 1.0])])
    record = found.state.trials["00000"]
    event = {"type": "result", "trial": "00000", "iteration": 3, "checkpoint": None, "node": "n"}
    found.state.apply({"seq": 9, **event, "metrics": {"accuracy": 0.5}})
    found.state.apply({"seq": 10, "type": "complete", "trial": "00000", "status": "finished"})
    assert record.last.metrics == {"accuracy": 0.5}
    [trial] = optuna.load_study(study_name="mine", storage=opened(found)).trials
    assert (trial.state.name, trial.values, trial.intermediate_values) == ("COMPLETE", [1.0], {1: 2.0, 2: 1.0})


def test_optuna_says_nothing_meanwhile_and_what_it_likes_afterwards(caplog):
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        study_log(results(trials=TRIALS))
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
        assert "study created" not in caplog.text
        optuna.create_study()
        assert "study created" in caplog.text
    finally:
        optuna.logging.set_verbosity(before)


def test_the_verbosity_is_restored_after_a_failure(monkeypatch):
    monkeypatch.setattr(study_module, "_axes", None)
    before = optuna.logging.get_verbosity()
    with pytest.raises(TypeError):
        study_log(results(trials=TRIALS))
    assert optuna.logging.get_verbosity() == before


def test_an_import_leaves_optunas_verbosity_alone():
    script = """
import optuna
before = optuna.logging.get_verbosity()
import raysweep.history.optuna_export
assert optuna.logging.get_verbosity() == before
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
