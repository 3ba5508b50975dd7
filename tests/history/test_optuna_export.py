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
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import tune

from raysweep.history import optuna_export as study_module
from raysweep.history.optuna_export import study_log
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import SweepState
from raysweep.spec.configuration import Codec

SPACE = {
    "lr": tune.loguniform(1e-4, 1.0),
    "depth": tune.randint(1, 9),
    "head": {"act": tune.choice(["relu", "gelu"])},
    "epochs": 3,
}


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
    return SweepResults("runs/mine", {"name": "mine", "metrics": metrics, "modes": modes}, state)


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

    def open_log(found, space=SPACE):
        path = tmp_path / "optuna.log"
        path.write_bytes(study_log(found, space))
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


def axes_of(study):
    return study.trials[0].distributions


def test_an_axis_is_that_of_the_space_whatever_was_tried(opened):
    study = optuna.load_study(study_name="mine", storage=opened(results(trials=TRIALS)))
    assert axes_of(study) == {
        "lr": FloatDistribution(1e-4, 1.0, log=True),
        "depth": IntDistribution(1, 8),
        "head/act": CategoricalDistribution(("relu", "gelu")),
    }


@pytest.mark.parametrize(
    ("domain", "values", "axis"),
    [
        (tune.uniform(0, 1), [0.001, 0.9], FloatDistribution(0, 1)),
        (tune.loguniform(0.1, 0.2), [0.1, 0.2], FloatDistribution(0.1, 0.2, log=True)),
        (tune.quniform(0.2, 1.0, 0.1), [0.4, 0.7000000000000001], FloatDistribution(0.2, 1.0, step=0.1)),
        (tune.randint(2, 5), [2, 2], IntDistribution(2, 4)),
        (tune.lograndint(1, 100), [28], IntDistribution(1, 99, log=True)),
        (tune.qrandint(2, 8, 2), [2, 8], IntDistribution(2, 8, step=2)),
        (tune.choice([3, 1, 2]), [1], CategoricalDistribution((3, 1, 2))),
        (tune.choice(["b", None, True, 0.5]), [None], CategoricalDistribution(("b", None, True, 0.5))),
        (tune.choice([[2], {"a": 1}]), [[2], {"a": 1}], CategoricalDistribution(("[2]", '{"a": 1}'))),
        (tune.choice([1, True, 1.0]), [1, True, 1.0], CategoricalDistribution(("1", "true", "1.0"))),
        (tune.grid_search([0.1, 0.001]), [0.001], CategoricalDistribution((0.1, 0.001))),
        # What Optuna has no distribution for: what was tried, and the bounds if there are any.
        (tune.qloguniform(0.001, 1.0, 0.001), [0.008], FloatDistribution(0.001, 1.0, log=True)),
        (tune.qlograndint(4, 100, 4), [100], IntDistribution(4, 100, log=True)),
        (tune.randn(0, 1), [-0.5, 1.25, 0.0], FloatDistribution(-0.5, 1.25)),
        (tune.qrandn(0, 1, 0.5), [-0.5, 1.5], FloatDistribution(-0.5, 1.5)),
        (tune.sample_from(lambda _: 1), [1, 1000], IntDistribution(1, 1000)),
        (tune.sample_from(lambda _: 1), ["b", "a", 1], CategoricalDistribution(("b", "a", 1))),
        # A value that the domain does not have, from another space or a perturbation: the axis is wide enough.
        (tune.uniform(0, 1), [0.5, 2.0], FloatDistribution(0, 2)),
        (tune.loguniform(0.1, 1), [0.01], FloatDistribution(0.01, 1, log=True)),
        (tune.loguniform(0.1, 1), [-1.0], FloatDistribution(-1, 1)),
        (tune.quniform(0, 1, 0.5), [0.25], FloatDistribution(0, 1)),
        (tune.randint(1, 5), [2.5], FloatDistribution(1, 5)),
        (tune.choice(["b", "a"]), ["c", "a"], CategoricalDistribution(("b", "a", "c"))),
    ],
    ids=repr,
)
def test_every_domain_has_its_axis(opened, domain, values, axis):
    found = results(trials=[("finished", {"p": value}, [1.0]) for value in values])
    study = optuna.load_study(study_name="mine", storage=opened(found, {"p": domain}))
    assert axes_of(study) == {"p": axis}
    for trial, value in zip(study.trials, values, strict=True):
        assert json.dumps(trial.params["p"]) in (json.dumps(value), json.dumps(json.dumps(value)))


@pytest.mark.parametrize("odd", ["text", None, True, math.nan, math.inf, [1], 2**70 + 1, 10**400], ids=repr)
@pytest.mark.parametrize("domain", [tune.uniform(0, 1), tune.randint(0, 9), tune.randn()], ids=repr)
def test_what_an_axis_of_numbers_cannot_hold_is_an_attribute(opened, odd, domain):
    found = results(trials=[("finished", {"p": 1}, [1.0]), ("finished", {"p": odd}, [2.0])])
    first, second = optuna.load_study(study_name="mine", storage=opened(found, {"p": domain})).trials
    assert first.params == {"p": 1}
    assert (second.params, json.dumps(second.user_attrs["config/p"])) == ({}, json.dumps(odd))


def test_parameters_are_found_wherever_they_are(opened):
    space = {"head": tune.choice([{"act": "relu"}]), "layers": [tune.randint(1, 5), 7], "a": {1: tune.randint(0, 3)}}
    config = {"head": {"act": "relu"}, "layers": [3, 7], "a": {"1": 2}}
    [trial] = optuna.load_study(
        study_name="mine", storage=opened(results(trials=[("finished", config, [1.0])]), space)
    ).trials
    assert trial.params == {"head": '{"act": "relu"}', "layers/0": 3, "a/1": 2}


def test_a_parameter_that_a_trial_did_not_have_yet_is_left_out(opened):
    found = results(trials=[("finished", {}, [1.0]), ("finished", {"lr": 0.5}, [1.0])])
    trials = optuna.load_study(study_name="mine", storage=opened(found)).trials
    assert [trial.params for trial in trials] == [{}, {"lr": 0.5}]


BEGAN = 1_700_000_000.0


def timed(*events):
    """The results of one trial, whose events are `(second, type, fields)`."""
    state = SweepState(
        {"seq": n, "time": BEGAN + second, "type": type, "trial": "00000", **fields}
        for n, (second, type, fields) in enumerate(events, start=1)
    )
    return SweepResults("runs/mine", {"name": "mine", "metrics": ["loss"], "modes": ["min"]}, state)


def reports(second, iteration, took):
    told = {"iteration": iteration, "metrics": {"loss": 1.0, "time_this_iter_s": took}}
    return second, "result", {**told, "checkpoint": None, "node": "n"}


SUGGESTED = (0, "suggest", {"config": config()})
FAILED = (15, "failure", {"error": "", "kind": "lost"})


@pytest.mark.parametrize(
    ("events", "began", "ended", "reported"),
    [
        (
            [reports(10, 1, 4.0), reports(20, 2, 9.0), (21, "complete", {"status": "finished"})],
            6,
            21,
            {"1": 4, "2": 14},
        ),
        ([reports(10, 1, 4.0), FAILED, reports(30, 1, 5.0), (31, "complete", {"status": "stopped"})], 6, 31, {"1": 24}),
        ([reports(3, 1, 60.0), (4, "complete", {"status": "stopped"})], 0, 4, {"1": 3}),
        ([(7, "complete", {"status": "infeasible"})], 0, 7, {}),
        ([reports(10, 1, 4.0), (2, "complete", {"status": "failed"})], 6, 6, {"1": 4}),  # another machine's clock
    ],
)
def test_a_trial_begins_and_ends_when_it_did(opened, events, began, ended, reported):
    [trial] = optuna.load_study(study_name="mine", storage=opened(timed(SUGGESTED, *events))).trials
    times = [trial.datetime_start.timestamp() - BEGAN, trial.datetime_complete.timestamp() - BEGAN]
    assert times == [began, ended]
    assert trial.duration.total_seconds() == ended - began
    assert trial.user_attrs["seconds_at_report"] == reported


def test_what_optuna_has_no_choices_for_is_shown_as_text(opened):
    given = [[32], (64, 64), len, np.int64(3), "relu"]
    space = {"act": tune.choice(given)}
    found = results(trials=[("finished", Codec(space).write({"act": act}), [1.0]) for act in given])
    study = optuna.load_study(study_name="mine", storage=opened(found, space))
    choices = ("[32]", "[64, 64]", "<built-in function len>", 3, "relu")
    assert tuple(trial.params["act"] for trial in study.trials) == choices
    assert axes_of(study)["act"].choices == choices


def test_constants_are_no_parameters(opened):
    space = {"lr": tune.uniform(0.0, 1.0), "epochs": 3}
    study = optuna.load_study(study_name="mine", storage=opened(results(trials=TRIALS), space))
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
    written = study_log(results(trials=TRIALS), SPACE)
    backend = JournalFileBackend(str(tmp_path / "same.log"))
    backend.append_logs([json.loads(line) for line in written.splitlines()])
    assert (tmp_path / "same.log").read_bytes() == written


def test_nothing_waits_for_the_disk(monkeypatch):
    # Optuna's own file backend syncs, and takes a lock, twice a trial: most of the time that an export took.
    refused = []
    for name in ("fsync", "symlink", "rename"):
        monkeypatch.setattr(os, name, lambda *args, name=name: refused.append(name))
    study_log(results(trials=TRIALS), SPACE)
    assert refused == []


def test_a_study_grows_by_one_line_a_trial():
    lines = [len(study_log(results(trials=TRIALS[:1] * n), SPACE).splitlines()) for n in (10, 20)]
    assert lines[1] - lines[0] == 10


def test_a_parameter_of_one_choice_a_trial_is_an_attribute(opened):
    """Each trial's line names all choices of each parameter."""
    texts = [f"{n:03d}-{'x' * 20}" for n in range(200)]
    found = results(trials=[("finished", config(act=text), [1.0]) for text in texts])
    trials = optuna.load_study(study_name="mine", storage=opened(found)).trials
    assert [set(trial.params) for trial in trials] == [{"lr", "depth"}] * 200
    assert [trial.user_attrs["config/head/act"] for trial in trials] == texts
    assert max(map(len, study_log(found, SPACE).splitlines())) < 2000


def test_odd_numbers_are_choices(opened):
    odd = [0.5, math.inf, 2**70, None, True]
    found = results(trials=[("finished", config(lr=value), [1.0]) for value in odd])
    trials = optuna.load_study(study_name="mine", storage=opened(found, {"lr": tune.choice(odd)})).trials
    assert [trial.params["lr"] for trial in trials] == odd


def test_a_list_of_objects_of_odd_keys_is_shown_as_text(opened):
    found = results(trials=[("finished", config(act=[{"('a', 1)": 2}]), [1.0])])
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
        study_log(results(trials=TRIALS), SPACE)
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
        assert "study created" not in caplog.text
        optuna.create_study()
        assert "study created" in caplog.text
    finally:
        optuna.logging.set_verbosity(before)


def test_the_verbosity_is_restored_after_a_failure(monkeypatch):
    monkeypatch.setattr(study_module, "axes_of", None)
    before = optuna.logging.get_verbosity()
    with pytest.raises(TypeError):
        study_log(results(trials=TRIALS), SPACE)
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
