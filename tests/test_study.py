"""optuna.log: the sweep as a study that Optuna and its dashboard open."""

import io
import json
import math

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import tune

from raysweep.results import SweepResults
from raysweep.space import describe
from raysweep.state import SweepState
from raysweep.study import study_log

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
