"""The process that runs trials one after the other, here in this one; with a real Ray where data or errors travel."""

import os
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import ray
import torch

import raysweep
from raysweep.history import checkpoint
from raysweep.history.checkpoint import STATE
from raysweep.storage import FolderStorage
from raysweep.trial import actor as actors
from raysweep.trial.actor import NotFinite, Over, TrialActor, Unreported
from raysweep.trial.run import Run, TrialSpec


@pytest.fixture
def place(tmp_path):
    return FolderStorage(str(tmp_path))


@pytest.fixture
def actor(place):
    """Makes an actor in this process; what it runs is ended."""
    made = []

    def make(train, **more):
        made.append(TrialActor())
        made[-1].prepare(TrialSpec(train, place, **{"max_iterations": 4, **more}))
        return made[-1]

    yield make
    for each in made:
        each.end(5)


def run(trial="00000", start=None, spent=0.0, **config):
    return Run(trial, config, config, start, spent)


def train(config):
    state = raysweep.resume() or {"path": []}
    for epoch in raysweep.iterations():
        state["path"].append((epoch, config["lr"]))
        raysweep.report({"loss": config["lr"] / epoch}, state=state)


def test_a_run_continues_from_a_checkpoint(actor, place):
    first = actor(train)
    reports = [first.start(run(lr=8.0), []), first.step()]
    assert [(each.metrics["loss"], each.restored) for each in reports] == [(8.0, None), (4.0, None)]

    saved = reports[1].checkpoint
    report = actor(train).start(run("00001", saved, 60.0, lr=3.0), [])
    assert (report.iteration, report.metrics["loss"], report.restored) == (3, 1.0, saved)
    assert report.metrics["time_total_s"] > 60
    assert checkpoint.load(place, report.checkpoint) == {"path": [(1, 8.0), (2, 8.0), (3, 3.0)]}


def test_a_run_whose_checkpoint_is_damaged_says_which_older_one_it_continues_from(actor, place):
    first = actor(train)
    older, newer = (report.checkpoint for report in (first.start(run(lr=8.0), []), first.step()))
    first.end(5)
    place.put(f"{newer.key}/{STATE}", b"half of it")
    report = first.start(run(start=newer, lr=8.0), [])
    assert (report.iteration, report.restored) == (2, older)


def train_in_a_folder(config):
    with raysweep.resume_folder() as folder:
        path = (folder / "path").read_text() if folder else ""
    for epoch in raysweep.iterations():
        path += f"{epoch} "
        with tempfile.TemporaryDirectory() as own:
            Path(own, "path").write_text(path)
            raysweep.report({"path": path}, checkpoint=own)


def test_a_run_continues_from_a_folder_and_from_an_older_one_if_that_is_damaged(actor, place):
    first = actor(train_in_a_folder)
    older, newer = (report.checkpoint for report in (first.start(run(), []), first.step()))
    first.end(5)
    report = first.start(run("00001", newer), [])
    assert (report.metrics["path"], report.restored) == ("1 2 3 ", newer)
    first.end(5)
    place.put(f"{newer.key}/files/path", b"half")
    report = first.start(run("00002", newer), [])
    assert (report.metrics["path"], report.restored) == ("1 2 ", older)


def test_a_folder_that_a_run_did_not_open_is_removed(actor, place, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    saved = checkpoint.save_folder(place, "00000", 1, tmp_path / "scratch")
    each = actor(lambda config: raysweep.report({"loss": 1.0}))
    assert each.start(run(start=saved), []).iteration == 2
    assert len(list((tmp_path / "scratch").iterdir())) == 1
    each.end(5)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_run_whose_function_returned_is_over(actor):
    each = actor(train)
    reports = [each.start(run(lr=1.0), []), *(each.step() for _ in range(2))]
    assert [report.iteration for report in reports] == [1, 2, 3]
    last = each.step()
    assert (last.clean, last.report.iteration) == (True, 4), "both in one answer"


def test_a_function_that_returns_before_its_last_iteration_is_over(actor):
    each = actor(lambda config: raysweep.report({"loss": 1.0}))
    assert each.start(run(), []).iteration == 1
    assert each.step() == Over(clean=True)


def test_an_actor_that_is_given_another_trial_begins_anew(actor, place):
    each = actor(train)
    each.start(run(lr=1.0), [])
    each.step()
    assert each.end(5) == Over(clean=True)
    report = each.start(run("00001", lr=5.0), [])
    assert (report.iteration, report.metrics["loss"], report.restored) == (1, 5.0, None)
    assert checkpoint.owner(report.checkpoint.key) == "00001"


def test_an_actor_that_runs_nothing_is_ended_at_once(actor):
    assert actor(train).end(5) == Over(clean=True)


def test_between_two_runs_there_is_no_trial_to_report_to(actor):
    each = actor(train)
    each.start(run(lr=1.0), [])
    each.end(5)
    with pytest.raises(RuntimeError, match="works inside a trial"):
        raysweep.report({"loss": 1.0})


def test_what_the_function_raised_is_raised(actor):
    def broken(config):
        raise ValueError("no such layer")

    with pytest.raises(ValueError, match="no such layer"):
        actor(broken).start(run(), [])


def test_a_function_that_never_reports_is_an_error(actor):
    with pytest.raises(Unreported, match=r"returned without a report: call raysweep\.report"):
        actor(lambda config: None).start(run(), [])


def test_one_that_has_nothing_left_to_report_is_over(actor):
    first = actor(train, max_iterations=1)
    saved = first.start(run(lr=1.0), []).report.checkpoint
    assert actor(train, max_iterations=1).start(run(start=saved, lr=1.0), []) == Over(clean=True)


def test_a_metric_that_must_be_finite_fails_the_run_by_name(actor):
    each = actor(lambda config: raysweep.report({"other": np.nan, "loss": config["loss"]}), finite=("loss",))
    with pytest.raises(NotFinite, match=r"^metric `loss` is nan: a smaller learning rate may help, or --nan stop$"):
        each.start(run(loss=np.nan), [])
    assert actor(train, finite=("accuracy",)).start(run(lr=1.0), []).iteration == 1, "it may be left out"


def test_what_is_optimised_is_no_text(actor):
    with pytest.raises(TypeError, match="metric `loss` is the text 'low', and it is optimised"):
        actor(lambda config: raysweep.report({"loss": "low"}), numeric=("loss",)).start(run(), [])


def test_a_function_that_does_not_let_itself_be_stopped_leaves_a_process_that_is_not_clean(actor, stubborn):
    each = actor(stubborn)
    each.start(run(), [])
    assert each.end(60) == Over(clean=False)


def test_nor_does_one_that_reports_beyond_its_last_iteration_without_end(actor, stubborn):
    over = actor(stubborn, max_iterations=1).start(run(), [])
    assert (over.clean, over.report.iteration) == (False, 1)


def test_the_code_after_the_last_iteration_runs_before_the_run_is_over(actor):
    done, score = [], threading.Event()

    def with_a_test_score(config):
        train(config)
        score.wait()
        done.append("test score")

    each = actor(with_a_test_score, max_iterations=1)
    assert each.start(run(lr=1.0), []).iteration == 1, "the report does not wait for it"
    assert done == []
    score.set()
    assert each.step() == Over(clean=True)
    assert done == ["test score"]


def test_the_code_after_the_last_iteration_may_fail(actor):
    def broken(config):
        train(config)
        raise OSError("no upload")

    each = actor(broken, max_iterations=1)
    assert each.start(run(lr=1.0), []).iteration == 1, "what was reported is not lost"
    with pytest.raises(OSError, match="no upload"):
        each.step()


def test_a_run_that_uses_up_its_time_is_ended_wherever_it_hangs(actor, monkeypatch):
    calls = []
    alarm = SimpleNamespace(
        dump_traceback_later=lambda seconds, exit, file: calls.append((seconds, exit)),
        cancel_dump_traceback_later=lambda: calls.append("cancelled"),
    )
    monkeypatch.setattr(actors, "faulthandler", alarm)
    each = actor(train, timeout=100.0)
    for spent in (30.0, 1000.0):
        each.start(run(spent=spent, lr=1.0), [])
        each.end(5)
    assert calls == [(70.0, True), "cancelled", (1.0, True), "cancelled"]


def test_a_function_of_two_arguments_of_a_task_without_data_gets_none(actor):
    seen = []

    def wants_data(config, data):
        seen.append((config, data))
        raysweep.report({"loss": 1.0})

    actor(wants_data).start(run(lr=2.0), [])
    assert seen == [({"lr": 2.0}, None)]


CHANGES = {
    "list": ([1, 2], lambda data: data.append(3), len),
    "dictionary": ({"a": {}}, lambda data: data["a"].update(b=1), lambda data: len(data["a"])),
    "table": (pd.DataFrame({"a": [1, 2]}), lambda data: data.insert(0, "b", 0), lambda data: len(data.columns)),
    "tensor": (torch.zeros(2), lambda data: data.add_(1), lambda data: float(data.sum())),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_a_run_does_to_its_data_no_other_run_sees(private_ray, actor, kind):
    data, change, measure = CHANGES[kind]
    seen = []

    def changes(config, data):
        seen.append(measure(data))
        change(data)
        seen.append(measure(data))
        raysweep.report({"loss": 1.0})

    each, reference = actor(changes), ray.put(data)
    for trial in ("00000", "00001"):
        each.start(run(trial), [reference])
        each.end(5)
    assert seen[:2] == seen[2:]
    assert seen[0] == measure(data) != seen[1]


def test_arrays_are_views_of_shared_memory_that_no_run_can_change(private_ray, actor):
    seen = []

    def changes(config, data):
        seen.append(data["images"])
        data["images"][0] = 7.0

    each, reference = actor(changes), ray.put({"images": np.zeros(100_000)})
    for trial in ("00000", "00001"):
        with pytest.raises(ValueError, match="read-only"):
            each.start(run(trial), [reference])
    first, second = seen
    assert np.shares_memory(first, second)
    assert not first.any()


def test_what_a_run_does_to_its_configuration_the_next_one_does_not_see(private_ray, place):
    def changes(config):
        raysweep.report({"loss": config["opt"].pop("lr")}, state="x")

    remote = ray.remote(TrialActor).remote()
    ray.get(remote.prepare.remote(TrialSpec(changes, place, 4)))
    one = run(opt={"lr": 0.5})
    reports = []
    for _ in range(2):
        reports.append(ray.get(remote.start.remote(one, [])))
        assert ray.get(remote.end.remote(5)) == Over(clean=True)
    assert [report.metrics["loss"] for report in reports] == [0.5, 0.5]
    assert one.config == {"opt": {"lr": 0.5}}
    ray.kill(remote)


class Looking(TrialActor):
    def visible(self) -> str | None:
        return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_a_trial_without_a_share_of_a_gpu_sees_none(private_ray: None) -> None:
    actor = ray.remote(Looking).options(num_gpus=0).remote()
    assert ray.get(actor.visible.remote()) == ""
    ray.kill(actor)
