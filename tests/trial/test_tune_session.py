"""Code for plain Ray Tune in a trial of ours: what its functions report, go on from and learn of the trial."""

import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import ray.train
from ray import tune
from ray.air import session as old_session
from ray.train._internal import session as of_ray

import raysweep
from raysweep.history import checkpoint
from raysweep.storage import FolderStorage
from raysweep.trial.actor import Over, TrialActor, Unreported
from raysweep.trial.run import Run, TrialSpec
from raysweep.values import TIME_THIS_ITER_S, TIME_TOTAL_S
from tests.waiting import PATIENCE_S


@pytest.fixture
def place(tmp_path):
    return FolderStorage(str(tmp_path / "runs" / "my-sweep"))


@pytest.fixture
def actor(place):
    """Makes an actor in this process; what it runs is ended."""
    made = []

    def make(train, **more):
        made.append(TrialActor())
        made[-1].prepare(TrialSpec(train, place, **{"max_iterations": 4, "numeric": ("loss",), **more}))
        return made[-1]

    yield make
    for each in made:
        each.end(5)


def run(trial="00003", start=None, **config):
    return Run(trial, config, config, start)


def own(report):
    return {name: value for name, value in report.metrics.items() if name not in (TIME_THIS_ITER_S, TIME_TOTAL_S)}


def all_reports(actor, start=None, **config):
    """The reports of a run, up to its end."""
    outcome, reports = actor.start(run(start=start, **config), []), []
    while True:
        if isinstance(outcome, Over):
            return [*reports, outcome.report] if outcome.report else reports
        reports.append(outcome)
        outcome = actor.step()


def counts(config, loaded, reported):
    """Counts epochs in a file of a checkpoint."""
    epoch = 0
    if found := loaded():
        with found.as_directory() as folder:
            epoch = json.loads(Path(folder, "epoch.json").read_text())
    while True:
        epoch += 1
        made = Path(config["made"], f"{epoch}")
        made.mkdir()
        (made / "epoch.json").write_text(json.dumps(epoch))
        reported({"loss": 1 / epoch, "epoch": epoch}, checkpoint=tune.Checkpoint.from_directory(made))


def of_tune(config):
    counts(config, tune.get_checkpoint, tune.report)


def of_train(config):
    counts(config, ray.train.get_checkpoint, ray.train.report)


def of_old_sessions(config):
    counts(config, old_session.get_checkpoint, old_session.report)


@pytest.mark.parametrize("train", [of_tune, of_train, of_old_sessions])
def test_its_checkpoints_are_verified_and_a_run_goes_on_from_one(actor, place, tmp_path, train):
    first = actor(train)
    reports = [first.start(run(made=tmp_path), []), first.step()]
    assert [own(each) for each in reports] == [{"loss": 1.0, "epoch": 1}, {"loss": 0.5, "epoch": 2}]
    assert checkpoint.verified(place, "00003") == [each.checkpoint for each in reports]
    first.end(5)

    (tmp_path / "again").mkdir()
    [third, fourth] = all_reports(actor(train), reports[1].checkpoint, made=tmp_path / "again")
    assert [(each.iteration, each.metrics["epoch"]) for each in (third, fourth)] == [(3, 3), (4, 4)]
    assert (third.restored, fourth.restored) == (reports[1].checkpoint, None)


def test_the_newest_checkpoint_may_be_asked_for_and_kept_until_the_end(actor, tmp_path):
    seen = []

    def train(config):
        assert tune.get_checkpoint() is None
        for text in ("one", "two"):
            (tmp_path / "saved").mkdir(exist_ok=True)
            (tmp_path / "saved" / "text").write_text(text)
            tune.report({"loss": 1.0}, checkpoint=tune.Checkpoint.from_directory(tmp_path / "saved"))
            seen.append(tune.get_checkpoint())
        tune.report({"loss": 1.0})
        copy = Path(seen[0].to_directory(tmp_path / "copy"))
        assert [Path(each.path, "text").read_text() for each in seen] == ["one", "two"]
        assert (copy / "text").read_text() == "one"

    assert len(all_reports(actor(train))) == 3
    assert not any(Path(each.path).exists() for each in seen), "nothing is left on the disk"


def test_a_folder_that_ray_would_delete_after_the_upload_is_deleted(actor, tmp_path):
    made = tmp_path / "made"

    def train(config):
        made.mkdir()
        kept = ray.train.Checkpoint.from_directory(made)
        ray.train.report({"loss": 1.0}, kept, delete_local_checkpoint_after_upload=True)

    [report] = all_reports(actor(train))
    assert report.checkpoint is not None
    assert not made.exists()


def test_what_it_learns_of_its_trial(actor):
    seen = []

    def train(config):
        for context in (tune.get_context(), ray.train.get_context()):
            folder = Path(context.get_trial_dir())
            (folder / "mine").write_text("")
            seen.append((context.get_trial_id(), context.get_trial_name(), context.get_experiment_name(), folder))
        workers = ray.train.get_context()
        assert (workers.get_world_rank(), workers.get_world_size(), workers.get_local_rank()) == (0, 1, 0)
        tune.report({"loss": 1.0})

    all_reports(actor(train))
    folder = seen[0][-1]
    assert seen == [("00003", "my-sweep_00003", "my-sweep", folder)] * 2
    assert not folder.exists()


def test_it_runs_in_a_folder_of_its_own_if_it_is_to(actor):
    before, seen = Path.cwd(), []

    def train(config):
        seen.append((Path.cwd(), Path(tune.get_context().get_trial_dir())))
        tune.report({"loss": 1.0})

    all_reports(actor(train, own_folder=True))
    all_reports(actor(train))
    (inside, folder), (outside, _) = seen
    assert (inside, outside, Path.cwd()) == (folder, before, before)


def test_nested_metrics_have_their_path_and_what_is_none_is_left_out_with_one_warning(actor, caplog):
    def train(config):
        for _ in range(2):
            tune.report(
                {"loss": np.float32(0.5), "eval": {"acc": 1, "deep": {"f1": 0.25}}, "curve": [1, 2], "best": None,
                 "training_iteration": 9, "time_total_s": 5.0, "done": False}
            )  # fmt: skip

    with caplog.at_level(logging.WARNING):
        reports = all_reports(actor(train))
    assert [own(each) for each in reports] == [{"loss": 0.5, "eval/acc": 1, "eval/deep/f1": 0.25}] * 2
    assert [each.message for each in caplog.records] == [
        "report: `curve`, `best`: neither a number nor a text, and not kept"
    ]


def test_what_is_optimised_is_never_left_out(actor):
    with pytest.raises(TypeError, match="metric `loss` is a list: give a number or a text"):
        all_reports(actor(lambda config: tune.report({"loss": [1, 2]})))


def test_done_ends_the_trial(actor):
    cleaned = []

    def train(config):
        try:
            for epoch in range(4):
                tune.report({"loss": 1.0, "done": epoch == 1})
        finally:
            cleaned.append(True)

    assert [each.iteration for each in all_reports(actor(train))] == [1, 2]
    assert cleaned == [True]


def yields(config):
    yield {"loss": 2.0}
    yield {"loss": 1.0}


@pytest.mark.parametrize(
    ("train", "reported"),
    [
        (yields, [{"loss": 2.0}, {"loss": 1.0}]),
        (lambda config: {"loss": 1.0}, [{"loss": 1.0}]),
        (lambda config: np.float32(0.5), [{"_metric": 0.5}]),
        (lambda config: raysweep.report({"loss": 3.0}) or {"loss": 1.0}, [{"loss": 3.0}]),
    ],
    ids=["yields", "a dictionary", "a number", "after a report of its own"],
)
def test_what_a_function_yields_or_returns_is_reported(actor, train, reported):
    assert [own(each) for each in all_reports(actor(train))] == reported


def test_a_stopped_generator_cleans_up(actor):
    cleaned = []

    def train(config):
        try:
            while True:
                yield {"loss": 1.0}
        finally:
            cleaned.append(threading.current_thread().name)

    each = actor(train)
    each.start(run(), [])
    assert each.end(5).clean
    assert cleaned == ["trial-00003"]


def test_a_function_that_returns_something_else_has_not_reported(actor):
    with pytest.raises(Unreported):
        all_reports(actor(lambda config: "done"))


def test_ray_is_as_it_was_after_a_run(actor):
    all_reports(actor(lambda config: tune.report({"loss": 1.0})))
    assert of_ray.get_session() is None
    with pytest.raises(RuntimeError, match="cannot be used outside"):
        ray.train.report({})


LATE = """
import sys
from raysweep.storage import FolderStorage
from raysweep.trial.actor import Over, TrialActor
from raysweep.trial.run import Run, TrialSpec

def train(config):
    assert not [name for name in sys.modules if name.startswith(("ray.tune", "ray.train", "pandas", "torch"))]
    from ray import {module}
    {module}.report({{"loss": 1.0}})

actor = TrialActor()
actor.prepare(TrialSpec(train, FolderStorage(sys.argv[1]), 1))
outcome = actor.start(Run("00000", {{}}, {{}}), [])
print("REPORTED", (outcome.report if isinstance(outcome, Over) else outcome).metrics["loss"])
"""


@pytest.mark.parametrize("module", ["tune", "train"])
def test_a_trial_that_imports_ray_tune_late_reports_and_others_never_import_it(tmp_path, module):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LATE.format(module=module), str(tmp_path)],
        capture_output=True, text=True, timeout=PATIENCE_S, env={"PYTHONPATH": str(Path(raysweep.__file__).parents[1])},
    )  # fmt: skip
    assert "REPORTED 1.0" in done.stdout, done.stderr
