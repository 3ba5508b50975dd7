"""A trial's session: reports one by one, verified checkpoints, and an end that runs `finally` and cannot hang."""

import contextlib
import copy
import platform
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import raysweep
from raysweep.errors import Unavailable
from raysweep.history import checkpoint
from raysweep.storage import FolderStorage
from raysweep.trial import session as sessions
from raysweep.trial.run import Run, TrialSpec
from raysweep.trial.session import Session

TIMES = ("time_this_iter_s", "time_total_s")


@pytest.fixture
def place(tmp_path):
    return FolderStorage(str(tmp_path))


@pytest.fixture
def session(place, monkeypatch):
    """Opens a session as the trial's actor does; each is ended."""
    opened = []

    def open_session(start=None, max_iterations=5, config=None, spent=0.0, state=None, written=None, **shared):
        spec = TrialSpec(len, place, max_iterations, **shared)
        run = Run("00007", config or {}, written or copy.deepcopy(config or {}), start, spent)
        opened.append(Session(spec, run, state))
        monkeypatch.setattr(sessions, "_session", opened[-1])
        return opened[-1]

    yield open_session
    assert all(each.end(5) for each in opened)


@pytest.fixture
def clock(monkeypatch):
    """The session's time, which passes when a test says so."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(sessions, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def own(report):
    """The metrics of a report that the function gave."""
    return {name: value for name, value in report.metrics.items() if name not in TIMES}


def count(config, state=True):
    for epoch in raysweep.iterations():
        raysweep.report({"epoch": epoch}, state={"epoch": epoch} if state else None)


def test_the_function_runs_up_to_each_report_and_no_further(session):
    reached = []

    def train(config):
        for epoch in raysweep.iterations():
            reached.append(epoch)
            raysweep.report({"loss": 1 / epoch})

    run = session(max_iterations=2)
    for epoch in (1, 2):
        assert own(run.next(train)) == {"loss": 1 / epoch}
        assert reached == list(range(1, epoch + 1))
    assert run.next(train) is None
    assert run.over


def test_each_state_is_a_checkpoint_of_its_iteration(session, place):
    run = session(max_iterations=3)
    reports = [run.next(count) for _ in range(3)]
    assert [report.iteration for report in reports] == [1, 2, 3]
    assert [report.checkpoint.iteration for report in reports] == [1, 2, 3]
    assert [checkpoint.load(place, report.checkpoint) for report in reports] == [{"epoch": n} for n in (1, 2, 3)]
    assert checkpoint.verified(place, "00007") == [report.checkpoint for report in reports]


def test_a_checkpoint_notes_what_was_reported_since_the_one_before_it(session, place):
    run = session(config={"lr": 0.5}, spent=10.0)

    def train(config):
        for epoch in raysweep.iterations():
            raysweep.report({"loss": 1 / epoch}, state=epoch if epoch in (2, 3) else None)

    saved = [run.next(train).checkpoint for _ in range(3)]
    (second, first_note), (third, last_note) = checkpoint.notes(place, "00007")
    assert [None, second, third] == saved
    assert [(each["training_iteration"], each["loss"]) for each in first_note["reports"]] == [(1, 1.0), (2, 0.5)]
    assert [(each["training_iteration"], each["loss"]) for each in last_note["reports"]] == [(3, 1 / 3)]
    assert (first_note["after"], last_note["after"]) == (None, second.to_dict())
    assert (first_note["config"], first_note["hostname"]) == ({"lr": 0.5}, platform.node())

    session(start=second).next(train)
    [(_, note)] = checkpoint.notes(place, "00007", {second.key})
    assert note["after"] == second.to_dict()


def test_what_a_checkpoint_notes_is_what_was_reported(session, place):
    run = session(max_iterations=2)
    reports = [run.next(count) for _ in range(2)]
    notes = [note["reports"] for _, note in checkpoint.notes(place, "00007")]
    assert notes == [[{**report.metrics, "training_iteration": report.iteration}] for report in reports]


def test_the_time_of_the_decision_is_not_the_trials(session, clock):
    def train(config):
        for epoch in raysweep.iterations():
            clock.seconds += epoch
            raysweep.report({"epoch": epoch})

    run, reports = session(spent=10.0), []
    for _ in range(3):
        reports.append(run.next(train))
        clock.seconds += 100
    assert [[report.metrics[name] for name in TIMES] for report in reports] == [[1, 11], [2, 13], [3, 16]]


def test_the_total_goes_on_from_a_checkpoint_as_it_does_without_one(session, clock):
    """What is reported last is all that a run which goes on from there knows of the total."""

    def train(config):
        for _ in raysweep.iterations():
            clock.seconds += 0.0123456789
            raysweep.report({"loss": 1.0}, state={})

    whole = session(max_iterations=9)
    undisturbed = [whole.next(train).metrics["time_total_s"] for _ in range(9)]
    start, spent, restarted = None, 0.0, []
    for _ in range(9):
        report = session(start, 9, spent=spent).next(train)
        start, spent = report.checkpoint, report.metrics["time_total_s"]
        restarted.append(spent)
    assert restarted == pytest.approx(undisturbed, abs=1e-9)
    assert undisturbed[-1] == pytest.approx(9 * 0.0123456789, abs=9e-6)


def test_the_iteration_is_reported_and_noted_if_it_is_optimised(session, place):
    report = session(numeric=("training_iteration",)).next(count)
    [(_, note)] = checkpoint.notes(place, "00007")
    assert (report.metrics["training_iteration"], note["optimised"]) == (1, ["training_iteration"])


def test_a_report_that_fails_its_trial_is_not_noted(session, place):
    run = session(finite=("loss",))

    def train(config):
        for epoch in raysweep.iterations():
            raysweep.report({"loss": float("nan") if epoch == 2 else 1.0}, state=epoch)

    for _ in range(2):
        run.next(train)
    assert [saved.iteration for saved, _ in checkpoint.notes(place, "00007")] == [1]
    assert [saved.iteration for saved in checkpoint.verified(place, "00007")] == [1, 2]


def test_what_a_function_does_to_its_configuration_is_not_noted(session, place):
    def train(config):
        rate = config["opt"].pop("lr")
        config["layers"].append(64)
        raysweep.report({"rate": rate}, state="x")

    session(config={"opt": {"lr": 0.5}, "layers": [32]}).next(train)
    [(_, note)] = checkpoint.notes(place, "00007")
    assert note["config"] == {"opt": {"lr": 0.5}, "layers": [32]}


def test_a_configuration_that_json_does_not_know_is_noted_as_the_journal_writes_it(session, place):
    session(config={"layers": (1, 2)}, written={"layers": [1, 2]}).next(count)
    [(_, note)] = checkpoint.notes(place, "00007")
    assert note["config"] == {"layers": [1, 2]}


def test_without_a_state_nothing_is_saved(session, place):
    assert session().next(lambda config: count(config, state=False)).checkpoint is None
    assert place.list() == []


def test_a_run_goes_on_where_its_checkpoint_ended(session):
    first = session()
    first.next(count)
    saved = first.next(count).checkpoint
    seen = []

    def train(config):
        seen.append(raysweep.resume())
        count(config)

    again = session(start=saved)
    report = again.next(train)
    assert seen == [{"epoch": 2}]
    assert (own(report), report.checkpoint.iteration) == ({"epoch": 3}, 3)
    assert [own(again.next(train))["epoch"] for _ in range(2)] == [4, 5]
    assert again.next(train) is None


def test_the_first_report_says_what_the_run_was_restored_from_and_where_it_is(session):
    saved = session().next(count).checkpoint
    again = session(start=saved)
    reports = [again.next(count) for _ in range(2)]
    assert [report.restored for report in reports] == [saved, None]
    assert {report.node for report in reports} == {platform.node()}


def test_a_run_from_the_beginning_has_nothing_to_resume(session):
    seen = []
    assert session().next(lambda config: seen.append((raysweep.resume(), list(raysweep.iterations())))) is None
    assert seen == [(None, [1, 2, 3, 4, 5])]


def test_a_state_that_was_loaded_already_is_handed_out_once_and_then_read_again(session):
    saved = session().next(count).checkpoint
    seen = []
    run = session(start=saved, state={"epoch": "in memory"})
    run.next(lambda config: seen.extend(raysweep.resume() for _ in range(2)))
    assert seen == [{"epoch": "in memory"}, {"epoch": 1}]


def test_an_exception_is_handed_over_as_it_is(session):
    error = ZeroDivisionError("mine")

    def train(config):
        raysweep.report({"loss": 1})
        raise error

    run = session()
    assert own(run.next(train)) == {"loss": 1}
    assert run.next(train) is error


def test_sys_exit_in_the_function_does_not_pass_for_a_success(session):
    def train(config):
        raise SystemExit(3)

    assert isinstance(session().next(train), SystemExit)


def test_a_run_that_is_ended_unwinds_and_does_not_go_on(session):
    steps = []

    def train(config):
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
    assert run.end(5)
    assert steps == [1, "finally"]
    assert run.outbox.get_nowait() is None


def test_what_a_function_raises_while_it_is_ended_ends_it_as_well(session):
    def train(config):
        try:
            count(config)
        finally:
            raise ValueError("the clean-up is broken")

    run = session()
    run.next(train)
    assert run.end(5)


def test_a_report_after_a_stop_ends_the_function_again_and_saves_nothing(session, place):
    steps = []

    def train(config):
        try:
            count(config)
        finally:
            steps.append("finally")
            raysweep.report({"epoch": 0}, state="late")
            steps.append("beyond")

    run = session()
    run.next(train)
    assert run.end(5)
    assert steps == ["finally"]
    assert [saved.iteration for saved in checkpoint.verified(place, "00007")] == [1]


def test_the_code_after_the_last_iteration_runs_and_a_report_in_it_ends_the_function(session, place):
    steps = []

    def train(config):
        count(config)
        steps.append("the test score")
        raysweep.report({"epoch": 0}, state="one too many")
        steps.append("beyond")

    run = session(max_iterations=2)
    assert [run.next(train).iteration for _ in range(2)] == [1, 2]
    assert run.next(train) is None
    assert steps == ["the test score"]
    assert [saved.iteration for saved in checkpoint.verified(place, "00007")] == [1, 2]


def test_what_the_code_after_the_last_iteration_raises_is_handed_over(session):
    def train(config):
        count(config)
        raise OSError("no upload")

    run = session(max_iterations=1)
    run.next(train)
    assert isinstance(run.next(train), OSError)


def test_a_stopped_function_that_swallows_each_end_holds_nobody_up(session, stubborn):
    run = session()
    run.next(stubborn)
    assert not run.end(60)
    assert not run.over


def test_nor_does_one_that_has_done_all_its_iterations(session, stubborn):
    run = session(max_iterations=1)
    run.next(stubborn)
    assert run.next(stubborn) is None
    assert not run.over


def test_a_function_that_swallows_some_ends_and_then_returns_leaves_nothing_behind(session):
    def train(config):
        for _ in range(10):
            with contextlib.suppress(BaseException):
                raysweep.report({"loss": 1.0})

    run = session()
    run.next(train)
    assert run.end(5)


def test_a_report_whose_save_failed_is_made_again_under_the_same_number(session, place, monkeypatch):
    save, saves = checkpoint.save, []

    def refuse_the_fourth(*arguments):
        saves.append(arguments)
        if len(saves) == 4:
            raise Unavailable("503")
        return save(*arguments)

    def train(config):
        for epoch in raysweep.iterations():
            try:
                raysweep.report({"epoch": epoch}, state=epoch)
            except Unavailable:
                raysweep.report({"epoch": epoch}, state=epoch)

    monkeypatch.setattr(sessions.checkpoints, "save", refuse_the_fourth)
    run = session()
    reports = [run.next(train) for _ in range(5)]
    assert [(report.iteration, report.metrics["epoch"]) for report in reports] == [(n, n) for n in range(1, 6)]
    assert run.next(train) is None
    notes = [note["reports"] for _, note in checkpoint.notes(place, "00007")]
    assert [[each["training_iteration"] for each in reports] for reports in notes] == [[1], [2], [3], [4], [5]]


def test_a_run_that_was_never_begun_can_be_ended(session):
    assert session().end(5)


def test_a_function_that_does_not_let_itself_be_ended_is_told(session):
    hang = threading.Event()

    def train(config):
        try:
            raysweep.report({"loss": 1})
        finally:
            hang.wait(10)

    stuck = session()
    stuck.next(train)
    assert not stuck.end(0.05)
    hang.set()
    assert stuck.end(5)


def test_a_metric_that_is_no_good_leaves_no_checkpoint_behind_and_its_iteration_to_do(session, place):
    def train(config):
        for loss in (None, "low", 1.0):
            with contextlib.suppress(TypeError):
                raysweep.report({"loss": loss}, state=loss)

    report = session(numeric=("loss",)).next(train)
    assert (report.iteration, own(report)) == (1, {"loss": 1.0})
    assert checkpoint.verified(place, "00007") == [report.checkpoint]


@pytest.mark.parametrize(
    "call", [lambda: raysweep.report({"a": 1}), raysweep.resume, raysweep.resume_folder, raysweep.iterations]
)
def test_outside_of_a_trial_the_error_says_what_to_do(call):
    with pytest.raises(
        RuntimeError, match=r"^raysweep\.(report|resume|resume_folder|iterations)\(\) works inside a trial: run the"
    ):
        call()


# Checkpoints that are folders.


def grow(config):
    """Trains in a folder: a file that changes, and one that does not."""
    with raysweep.resume_folder() as folder:
        seen = (folder / "epochs").read_text() if folder else ""
    for epoch in raysweep.iterations():
        seen += f"{epoch} "
        work = Path(config["work"])
        (work / "tokenizer").mkdir(parents=True)
        (work / "tokenizer" / "words").write_text("always the same")
        (work / "epochs").write_text(seen)
        raysweep.report({"epoch": epoch}, checkpoint=work)
        shutil.rmtree(work)  # nobody needs it any more


def test_a_folder_is_a_checkpoint_and_a_run_goes_on_from_it(session, place, tmp_path):
    run = session(config={"work": str(tmp_path / "work")})
    saved = [run.next(grow).checkpoint for _ in range(2)]
    assert checkpoint.verified(place, "00007") == saved
    assert [each["epoch"] for _, note in checkpoint.notes(place, "00007") for each in note["reports"]] == [1, 2]

    run = session(start=saved[1], config={"work": str(tmp_path / "again")})
    last = run.next(grow).checkpoint
    assert checkpoint.load(place, last, lambda: tmp_path / "last") == tmp_path / "last"
    assert (tmp_path / "last" / "epochs").read_text() == "1 2 3 "


def test_the_folder_that_a_run_starts_from_is_its_own_and_goes_with_the_context(session, place, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "weights").write_text("1 2 3")
    saved = checkpoint.save_folder(place, "00007", 1, tmp_path / "mine")
    seen = []

    def train(config):
        for _ in range(2):
            with raysweep.resume_folder() as folder:
                seen.append(folder)
                assert (folder / "weights").read_text() == "1 2 3"
                (folder / "weights").write_text("spoilt")
            assert not folder.exists()

    assert session(start=saved).next(train) is None
    assert len(set(seen)) == 2
    assert checkpoint.verified(place, "00007") == [saved]


def test_a_run_from_the_beginning_has_no_folder(session):
    seen = []

    def train(config):
        with raysweep.resume_folder() as folder:
            seen.append(folder)

    assert session().next(train) is None
    assert seen == [None]


@pytest.fixture
def mine(tmp_path):
    """A folder of the user's."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "weights").write_text("1 2 3")
    return tmp_path / "mine"


def test_a_report_has_a_state_or_a_folder(session, place, mine):
    def train(config):
        with pytest.raises(TypeError, match="`state` and `checkpoint` exclude each other"):
            raysweep.report({"loss": 1.0}, state={}, checkpoint=mine)
        raysweep.report({"loss": 1.0}, checkpoint=str(mine))

    report = session().next(train)
    assert (report.iteration, report.checkpoint.folder) == (1, True)
    assert checkpoint.verified(place, "00007") == [report.checkpoint]


@pytest.mark.parametrize("wrong", ["state", 1, b"/tmp", ["a"]])
def test_what_is_no_folder_is_named_and_the_iteration_may_be_reported_again(session, place, mine, wrong):
    def train(config):
        with pytest.raises((TypeError, ValueError), match=r"`checkpoint=.*`: must be "):
            raysweep.report({"loss": 1.0}, checkpoint=wrong)
        raysweep.report({"loss": 1.0}, checkpoint=mine)

    report = session().next(train)
    assert report.iteration == 1
    assert checkpoint.verified(place, "00007") == [report.checkpoint]


def test_a_folder_is_not_taken_for_a_state_nor_a_state_for_a_folder(session, place, mine):
    folder = checkpoint.save_folder(place, "00007", 1, mine)
    state = checkpoint.save(place, "00007", 1, {"weights": 1})
    with pytest.raises(RuntimeError, match=r"the checkpoint is a folder: open it with raysweep\.resume_folder\(\)"):
        session(start=folder).resume()
    with (
        pytest.raises(RuntimeError, match=r"a state: raysweep\.resume\(\) returns it"),
        session(start=state).resume_folder(),
    ):
        pass


def test_what_an_earlier_process_was_killed_in_is_removed(session, place, mine):
    saved = checkpoint.save_folder(place, "00007", 1, mine)
    place.put("checkpoints/00007/000002-abcdabcd/files/weights", b"1 2")

    def train(config):
        for _ in raysweep.iterations():
            raysweep.report({"loss": 1.0}, checkpoint=mine)

    report = session(start=saved).next(train)
    assert {key.split("/")[2] for key in place.list("checkpoints")} == {
        each.key.split("/")[2] for each in (saved, report.checkpoint)
    }


def test_a_trial_does_not_send_what_its_checkpoint_before_or_its_donors_has(session, place, mine):
    donor = checkpoint.save_folder(place, "00001", 4, mine)

    def train(config):
        for _ in raysweep.iterations():
            raysweep.report({"loss": 1.0}, checkpoint=mine)

    run = session(start=donor, max_iterations=9)
    first, second = (place.local_path(f"{run.next(train).checkpoint.key}/files/weights") for _ in range(2))
    assert first.samefile(place.local_path(f"{donor.key}/files/weights"))
    assert second.samefile(first)


def test_a_folder_whose_save_failed_is_reported_again_under_the_same_number(session, place, mine, monkeypatch):
    put_file, files = FolderStorage.put_file, []

    def refuse_the_second(self, key, source):
        files.append(key)
        if len(files) == 2:
            raise Unavailable("503")
        return put_file(self, key, source)

    def train(config):
        for epoch in raysweep.iterations():
            (mine / "weights").write_text(str(epoch))
            with contextlib.suppress(Unavailable):
                raysweep.report({"epoch": epoch}, checkpoint=mine)
                continue
            raysweep.report({"epoch": epoch}, checkpoint=mine)

    monkeypatch.setattr(FolderStorage, "put_file", refuse_the_second)
    run = session(max_iterations=3)
    reports = [run.next(train) for _ in range(3)]
    assert [(report.iteration, report.metrics["epoch"]) for report in reports] == [(1, 1), (2, 2), (3, 3)]
    assert checkpoint.verified(place, "00007") == [report.checkpoint for report in reports]
    assert len(place.child("checkpoints/00007").folders()) == 3, "nothing is left of the one that failed"


def test_for_a_store_that_is_away_a_report_waits_once(session, place, mine, monkeypatch):
    """And not again to tidy up: the sweep would take the trial for hung."""
    asked = []

    def away(self, *_):
        asked.append(1)
        raise Unavailable("503")

    def train(config):
        raysweep.report({"loss": 1.0}, checkpoint=mine)
        (mine / "weights").write_text("4 5 6")
        with monkeypatch.context() as patch:
            for method in ("put_file", "delete", "delete_tree", "folders", "exists"):
                patch.setattr(FolderStorage, method, away)
            for _ in range(2):
                with contextlib.suppress(Unavailable):
                    raysweep.report({"loss": 1.0}, checkpoint=mine)
        raysweep.report({"loss": 1.0}, checkpoint=mine)

    run = session()
    first, second = (run.next(train).checkpoint for _ in range(2))
    assert len(asked) == 2
    assert checkpoint.verified(place, "00007") == [first, second]
    assert len(place.child("checkpoints/00007").folders()) == 2


class Slow(FolderStorage):
    """Takes 0.5 s for each object."""

    clock = None

    def put(self, key, data):
        self.clock.seconds += 0.5
        super().put(key, data)


def test_a_report_says_how_long_its_checkpoint_took(session, clock, monkeypatch, tmp_path):
    monkeypatch.setattr(Slow, "clock", clock)
    opened = session()
    opened.spec = replace(opened.spec, storage=Slow(str(tmp_path)))

    def train(config):
        for state in (None, b"1", None, b"1"):
            raysweep.report({"loss": 1.0}, state=state)
            clock.seconds += 10

    assert [opened.next(train).stalled for _ in range(4)] == [0.0, 1.0, 0.0, 1.0]  # the state, and its marker
