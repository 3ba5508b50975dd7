"""A trial on its worker: reports one by one, verified checkpoints, and an end that runs `finally`."""

import threading

import numpy as np
import pytest

import raysweep
from raysweep import checkpoint, trial
from raysweep.storage import FolderStorage
from raysweep.trial import Session, TrialSpec, pointer, trainable


@pytest.fixture
def place(tmp_path):
    return FolderStorage(str(tmp_path))


@pytest.fixture
def session(place, monkeypatch):
    """Opens a session as the trial's actor does; each is ended."""
    opened = []

    def open_session(start=None, max_iterations=5, **more):
        opened.append(Session("00007", place, max_iterations, start, **more))
        monkeypatch.setattr(trial, "_session", opened[-1])
        return opened[-1]

    yield open_session
    assert all(each.end() for each in opened)


def count(state=True):
    for epoch in raysweep.iterations():
        raysweep.report({"epoch": epoch}, state={"epoch": epoch} if state else None)


def test_the_function_runs_up_to_each_report_and_no_further(session):
    reached = []

    def train():
        for epoch in raysweep.iterations():
            reached.append(epoch)
            raysweep.report({"loss": 1 / epoch})

    run = session(max_iterations=2)
    for epoch in (1, 2):
        assert run.next(train).metrics == {"loss": 1 / epoch}
        assert reached == list(range(1, epoch + 1))
    assert run.next(train) is None


def test_each_state_is_a_checkpoint_of_its_iteration(session, place):
    run = session(max_iterations=3)
    reports = [run.next(count) for _ in range(3)]
    assert [report.checkpoint.iteration for report in reports] == [1, 2, 3]
    assert [checkpoint.load(place, report.checkpoint) for report in reports] == [{"epoch": n} for n in (1, 2, 3)]
    assert checkpoint.verified(place, "00007") == [report.checkpoint for report in reports]


def test_a_checkpoint_notes_what_was_reported_since_the_one_before_it(session, place):
    run = session(config={"lr": 0.5}, spent=10.0)

    def train():
        for epoch in raysweep.iterations():
            raysweep.report({"loss": 1 / epoch}, state=epoch if epoch in (2, 3) else None)

    saved = [run.next(train).checkpoint for _ in range(3)]
    (second, first_note), (third, last_note) = checkpoint.notes(place, "00007")
    assert [None, second, third] == saved
    assert [(each["training_iteration"], each["loss"]) for each in first_note["reports"]] == [(1, 1.0), (2, 0.5)]
    assert [(each["training_iteration"], each["loss"]) for each in last_note["reports"]] == [(3, 1 / 3)]
    assert (first_note["after"], last_note["after"]) == (None, second.to_dict())
    assert first_note["config"] == {"lr": 0.5}
    times = [each["time_total_s"] for each in first_note["reports"] + last_note["reports"]]
    assert times == sorted(times)
    assert 10.0 < times[0] < times[-1] < 70.0

    session(start=second).next(train)
    [(_, note)] = checkpoint.notes(place, "00007", {second.key})
    assert note["after"] == second.to_dict()


def test_a_report_that_fails_its_trial_is_not_noted(session, place):
    run = session(finite=("loss",))

    def train():
        for epoch in raysweep.iterations():
            raysweep.report({"loss": float("nan") if epoch == 2 else 1.0}, state=epoch)

    for _ in range(2):
        run.next(train)
    assert [saved.iteration for saved, _ in checkpoint.notes(place, "00007")] == [1]
    assert [saved.iteration for saved in checkpoint.verified(place, "00007")] == [1, 2]


def test_without_a_state_nothing_is_saved(session, place):
    assert session().next(lambda: count(state=False)).checkpoint is None
    assert place.list() == []


def test_a_run_goes_on_where_its_checkpoint_ended(session):
    first = session()
    first.next(count)
    saved = first.next(count).checkpoint
    seen = []

    def train():
        seen.append(raysweep.resume())
        count()

    again = session(start=saved)
    report = again.next(train)
    assert seen == [{"epoch": 2}]
    assert (report.metrics, report.checkpoint.iteration) == ({"epoch": 3}, 3)
    assert [again.next(train).metrics["epoch"] for _ in range(2)] == [4, 5]
    assert again.next(train) is None


def test_a_run_from_the_beginning_has_nothing_to_resume(session):
    seen = []
    assert session().next(lambda: seen.append((raysweep.resume(), list(raysweep.iterations())))) is None
    assert seen == [(None, [1, 2, 3, 4, 5])]


def test_an_exception_is_handed_over_as_it_is(session):
    error = ZeroDivisionError("mine")

    def train():
        raysweep.report({"loss": 1})
        raise error

    run = session()
    assert run.next(train).metrics == {"loss": 1}
    assert run.next(train) is error


def test_sys_exit_in_the_function_does_not_pass_for_a_success(session):
    def train():
        raise SystemExit(3)

    assert isinstance(session().next(train), SystemExit)


def test_a_run_that_is_ended_unwinds_and_does_not_go_on(session):
    steps = []

    def train():
        try:
            for epoch in raysweep.iterations():
                raysweep.report({"epoch": epoch})
                steps.append(epoch)
        except Exception:
            steps.append("an except clause of the user's saw it")
        finally:
            steps.append("finally")

    run = session()
    run.next(train)
    run.next(train)
    assert run.end()
    assert steps == [1, "finally"]
    assert run.outbox.empty()


def test_a_run_that_was_never_begun_can_be_ended(session):
    assert session().end()


def test_a_function_that_does_not_let_itself_be_ended_is_told(place, monkeypatch):
    monkeypatch.setattr(trial, "THREAD_END_SECONDS", 0.05)
    hang = threading.Event()

    def train():
        try:
            raysweep.report({"loss": 1})
        finally:
            hang.wait(10)

    stuck = Session("00007", place, 5)
    monkeypatch.setattr(trial, "_session", stuck)
    stuck.next(train)
    assert not stuck.end()
    hang.set()
    assert stuck.end()


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array(2.5), 2.5),
        (np.array([2.5]), 2.5),
        ("text", "text"),
        (True, True),
    ],
)
def test_scalars_become_plain(session, given, plain):
    got = session().next(lambda: raysweep.report({"metric": given})).metrics["metric"]
    assert (got, type(got)) == (plain, type(plain))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([1.0], id="list"),
        pytest.param(None, id="None"),
        pytest.param({"a": 1}, id="dict"),
        pytest.param(np.array([1.0, 2.0]), id="array"),
    ],
)
def test_a_metric_of_a_wrong_type_is_named(session, wrong):
    error = session().next(lambda: raysweep.report({"loss": 1.0, "curve": wrong}))
    assert isinstance(error, TypeError)
    assert str(error) == f"report: metric `curve` is a {type(wrong).__name__}: give a number or a text"


def test_a_wrong_metric_leaves_no_checkpoint_behind(session, place):
    assert isinstance(session().next(lambda: raysweep.report({"loss": None}, state=1)), TypeError)
    assert checkpoint.verified(place, "00007") == []


@pytest.mark.parametrize("call", [lambda: raysweep.report({"a": 1}), raysweep.resume, raysweep.iterations])
def test_outside_of_a_trial_the_error_says_what_to_do(call):
    with pytest.raises(RuntimeError, match=r"^raysweep\.(report|resume|iterations)\(\) works inside a trial: run the"):
        call()


def train(config):
    state = raysweep.resume() or {"path": []}
    for epoch in raysweep.iterations():
        state["path"].append((epoch, config["lr"]))
        raysweep.report({"loss": config["lr"] / epoch}, state=state)


@pytest.fixture
def actor(place):
    """Makes the sweep's Trainable in this process; each is stopped."""
    made = []

    def make(config, function=train):
        made.append(trainable(TrialSpec(function, None, place, max_iterations=4), "mine")(config))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def test_a_trainable_continues_from_a_pointer(actor, place):
    first = actor({"lr": 8.0})
    results = [first.train() for _ in range(2)]
    assert [(r["training_iteration"], r["loss"], (r["restored_from"] or {}).get("key")) for r in results] == [
        (1, 8.0, None),
        (2, 4.0, None),
    ]
    saved = first.save()
    assert saved.metrics["checkpoint"] == results[1]["checkpoint"]

    second = actor({"lr": 3.0})
    second.restore(pointer(checkpoint.Checkpoint.from_dict(results[1]["checkpoint"]), {"time_total_s": 60.0}))
    result = second.train()
    assert (result["training_iteration"], result["loss"]) == (3, 1.0)
    assert result["restored_from"] == results[1]["checkpoint"]
    assert result["time_total_s"] > 60
    state = checkpoint.load(place, checkpoint.Checkpoint.from_dict(result["checkpoint"]))
    assert state == {"path": [(1, 8.0), (2, 8.0), (3, 3.0)]}
    assert second.train()["restored_from"] is None


def test_a_trainable_whose_function_returned_is_done(actor):
    each = actor({"lr": 1.0})
    assert [each.train()["done"] for _ in range(5)] == [False] * 4 + [True]


def test_a_trainable_that_is_given_to_another_trial_begins_anew(actor):
    each = actor({"lr": 1.0})
    each.train()
    each.train()
    assert each.reset({"lr": 5.0})
    result = each.train()
    assert (result["training_iteration"], result["loss"], result["restored_from"]) == (1, 5.0, None)


def test_a_trainable_raises_what_its_function_raised(actor):
    def broken(config):
        raise ValueError("no such layer")

    with pytest.raises(ValueError, match="no such layer"):
        actor({}, broken).train()


def test_a_function_that_never_reports_is_an_error(actor):
    with pytest.raises(RuntimeError, match=r"returned without a report: call raysweep\.report"):
        actor({}, lambda config: None).train()


def test_a_trainable_that_saved_nothing_has_no_pointer(actor):
    each = actor({}, lambda config: raysweep.report({"loss": 1.0}))
    each.train()
    assert each.save().checkpoint is None


def test_a_function_of_two_arguments_gets_the_data(actor):
    seen = []

    def wants_data(config, data):
        seen.append((config, data))
        raysweep.report({"loss": 1.0})

    actor({"lr": 2.0}, wants_data).train()
    assert seen == [({"lr": 2.0}, None)]
