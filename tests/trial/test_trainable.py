"""Classes of Ray Tune's: set up, restored, stepped, saved and stopped, as Ray does it."""

import json
from pathlib import Path

import pytest
from ray import tune

from raysweep.history import checkpoint
from raysweep.storage import FolderStorage
from raysweep.trial.actor import Over, TrialActor
from raysweep.trial.run import Run, TrialSpec


@pytest.fixture
def place(tmp_path):
    return FolderStorage(str(tmp_path / "runs" / "sweep"))


@pytest.fixture
def reports(place):
    """Runs a trial to its end; its reports."""

    def run(cls, start=None, max_iterations=3, trial="00003", **config):
        actor = TrialActor()
        actor.prepare(TrialSpec(cls, place, max_iterations, numeric=("loss",), own_folder=True))
        outcome, found = actor.start(Run(trial, config, config, start), []), []
        while not isinstance(outcome, Over):
            found.append(outcome)
            outcome = actor.step()
        actor.end(5)
        return [*found, outcome.report] if outcome.report else found

    return run


EVENTS = []


class Counter(tune.Trainable):
    """Saves a file."""

    def setup(self, config):
        EVENTS.append(("setup", config, self.trial_id, self.trial_name, Path(self.logdir) == Path.cwd()))
        self.count = 0

    def step(self):
        self.count += 1
        return {"loss": 1 / self.count, "count": self.count, "iterations": self.iteration, "nested": {"x": 1}}

    def save_checkpoint(self, checkpoint_dir):
        Path(checkpoint_dir, "count.json").write_text(json.dumps(self.count))

    def load_checkpoint(self, checkpoint_dir):
        self.count = json.loads(Path(checkpoint_dir, "count.json").read_text())
        EVENTS.append(("load", self.count))

    def log_result(self, result):
        EVENTS.append(("log", result["training_iteration"]))

    def cleanup(self):
        EVENTS.append(("cleanup",))


class Dictionary(Counter):
    """Saves a dictionary, which Ray pickles."""

    def save_checkpoint(self, checkpoint_dir):
        return {"count": self.count}

    def load_checkpoint(self, checkpoint):
        self.count = checkpoint["count"]


class Returned(Counter):
    def save_checkpoint(self, checkpoint_dir):
        super().save_checkpoint(checkpoint_dir)
        return checkpoint_dir


class Unsaved(tune.Trainable):
    def setup(self, config):
        self.left = config["left"]

    def step(self):
        self.left -= 1
        return {"loss": float(self.left), "done": self.left == 0}


class Sometimes(Counter):
    def step(self):
        return super().step() | {"should_checkpoint": self.count == 1}


class Broken(Counter):
    def step(self):
        raise ValueError("no data")


@pytest.fixture(autouse=True)
def forget():
    EVENTS.clear()


def test_it_is_driven_as_ray_does_it(reports):
    before = Path.cwd()
    found = reports(Counter, lr=0.5)
    assert [(each.iteration, each.metrics["count"]) for each in found] == [(1, 1), (2, 2), (3, 3)]
    assert EVENTS == [
        ("setup", {"lr": 0.5}, "00003", "sweep_00003", True),
        ("log", 1), ("log", 2), ("log", 3), ("cleanup",),
    ]  # fmt: skip
    assert Path.cwd() == before


def test_only_what_the_step_returned_is_reported(reports):
    [first, *_] = reports(Counter)
    added = {"time_this_iter_s", "time_total_s"}
    assert {*first.metrics} - added == {"loss", "count", "iterations", "nested/x"}


@pytest.mark.parametrize("cls", [Counter, Dictionary, Returned])
def test_each_step_is_saved_and_a_run_goes_on_from_it(reports, place, cls):
    found = reports(cls)
    assert checkpoint.verified(place, "00003") == [each.checkpoint for each in found]
    again = reports(cls, found[1].checkpoint, 4, trial="00004")
    assert [(e.iteration, e.metrics["count"], e.metrics["iterations"]) for e in again] == [(3, 3, 2), (4, 4, 3)]
    assert [event for event in EVENTS if event[0] == "log"][-2:] == [("log", 3), ("log", 4)]


def test_one_without_save_checkpoint_reports_without_and_ends_when_it_is_done(reports, place):
    found = reports(Unsaved, max_iterations=9, left=2)
    assert [(each.metrics["loss"], each.checkpoint) for each in found] == [(1.0, None), (0.0, None)]


def test_a_step_may_say_whether_it_is_saved(reports):
    assert [each.checkpoint is not None for each in reports(Sometimes)] == [True, False, False]


def test_it_cleans_up_after_an_error(reports):
    with pytest.raises(ValueError, match="no data"):
        reports(Broken)
    assert EVENTS[-1] == ("cleanup",)


def test_nothing_is_left_on_the_disk(reports, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    home = Path.home() / "ray_results"
    before = set(home.glob("*")) if home.exists() else set()
    reports(Counter)
    assert [*(tmp_path / "tmp").iterdir()] == []
    assert (set(home.glob("*")) if home.exists() else set()) == before
