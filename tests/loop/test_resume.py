"""A journal that lacks a last word: what the next driver takes over, ends, starts again, and begins anew."""

import pytest
from ray.tune.schedulers import FIFOScheduler, MedianStoppingRule

from raysweep.history import journal
from raysweep.history.checkpoint import owner
from raysweep.loop.executor import Returned
from raysweep.storage import FolderStorage
from raysweep.trial import session as sessions
from raysweep.trial.run import Run, TrialSpec
from tests.loop.scripted import LAST, Driver, failed


@pytest.fixture
def driver(tmp_path):
    """The next life of a driver on a sweep; the one before it is killed."""
    lives = []

    def begin(scheduler=None, name="sweep", **plan):
        for life in lives:
            life.close()
        lives.append(Driver(FolderStorage(str(tmp_path / name)), scheduler, **plan))
        return lives[-1]

    yield begin
    lives[-1].close()


def median_rule():
    return MedianStoppingRule(time_attr="training_iteration", grace_period=1, min_samples_required=3)


def of_trial(driver, trial):
    return [event["type"] for event in journal.read(driver.place) if event.get("trial") == trial]


def test_trials_are_numbered_and_as_many_as_samples(driver):
    only = driver(concurrency=9).run()
    assert only.started == ["00000", "00001", "00002"]
    assert [event["type"] for event in journal.read(only.place)] == ["start"] + ["suggest"] * 3


def test_no_more_trials_than_the_concurrency_are_begun(driver):
    first = driver()
    assert first.run(first.reported("00000", 1)).started == ["00000", "00001"]


def test_a_killed_drivers_trial_is_started_again_from_its_checkpoint_before_new_ones(driver):
    first = driver(concurrency=1)
    first.run(first.reported("00000", 1), first.reported("00000", 2))
    again, new, _ = driver(concurrency=9).run().executor.started
    assert (again.trial, again.config) == ("00000", first.state.trials["00000"].config)
    assert (again.start.iteration, owner(again.start.key), again.spent) == (2, "00000", 2.0)
    assert (new.trial, new.start, new.spent) == ("00001", None, 0.0)


def test_the_search_goes_on_where_it_was(driver):
    first = driver(total=5)
    first.run(first.reported("00000", 1))
    driver(total=5, concurrency=9).run()
    undisturbed = driver(name="other", total=5, concurrency=9).run()
    configs = [run.config for run in undisturbed.executor.started]
    assert [trial.config for trial in driver(total=5).state.trials.values()] == configs


def test_an_ended_trial_is_not_started_again(driver):
    first = driver(concurrency=1)
    first.run(first.reported("00000", LAST), Returned("00000"))
    second = driver(concurrency=9).run()
    assert second.searcher.adopted == [("00000", "finished"), ("00001", "pending")]
    assert second.started == ["00001", "00002"]


@pytest.mark.parametrize("scheduler", [FIFOScheduler, MedianStoppingRule], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("iteration", "saves", "dies_in", "ended"), [(LAST, False, "step", "finished"), (4, True, "stop", "stopped")]
)
def test_a_trial_whose_end_was_decided_is_not_started_again(driver, iteration, saves, dies_in, ended, scheduler):
    # Killed between the last result, with which it is journalled, and the end, which is journalled after that.
    first = driver(concurrency=1, timeout=4.0)
    first.run(first.reported("00000", iteration, saves=saves), dies_in=dies_in)
    second = driver(scheduler(), concurrency=9).run()
    # Before the searcher takes the trials over: it is notified that this one has ended.
    assert second.searcher.adopted == [("00000", ended)]
    assert second.started == ["00001", "00002"]
    assert second.status("00000") == ended
    assert of_trial(driver().run(), "00000") == ["suggest", "result", "complete"]


def test_code_after_the_last_iteration_runs_again_if_the_driver_died_during_it(driver):
    first = driver(concurrency=1)
    first.run(first.reported("00000", LAST))
    second = driver(concurrency=1)
    second.run(Returned("00000"))
    assert [(run.trial, run.start and run.start.iteration) for run in second.executor.started] == [
        ("00000", LAST),
        ("00001", None),
    ]
    assert second.status("00000") == "finished"
    assert ("00000", False) in [(trial, error) for trial, _, error in second.searcher.completed]


def test_a_stop_that_the_median_decided_outlives_a_killed_driver(driver):
    first = driver(median_rule(), total=5, concurrency=4)
    losses = enumerate((0.1, 0.2, 0.3, 0.9))
    first.run(*(first.reported(f"{n:05d}", 1, loss) for n, loss in losses), dies_in="stop")
    assert of_trial(first, "00003") == ["suggest", "result"]
    second = driver(median_rule(), total=5, concurrency=9)
    # The median is 0.25, and 0.2 for a rule that has forgotten the stopped trial.
    second.run(second.reported("00004", 1, 0.25))
    assert second.status("00003") == "stopped"
    assert second.started == ["00000", "00001", "00002", "00004"]
    assert second.executor.stopped == []


def test_the_scheduler_decides_on_adopted_results(driver, monkeypatch):
    """The driver that would have decided was killed; its trial has the result that stops it."""
    first = driver(median_rule(), total=5, concurrency=4)
    first.run(*(first.reported(f"{n:05d}", 1, loss) for n, loss in enumerate((0.1, 0.2, 0.3))))
    config = first.state.trials["00003"].config
    session = sessions.Session(TrialSpec(len, first.place, LAST), Run("00003", config, config))
    monkeypatch.setattr(sessions, "_session", session)
    session.next(lambda config: sessions.report({"loss": 0.9}, state="x"))
    assert session.end(5)
    second = driver(median_rule(), total=5, concurrency=9).run()
    assert second.status("00003") == "stopped"
    assert ("00003", "stopped") in second.searcher.adopted
    assert second.started == ["00000", "00001", "00002", "00004"]
    assert driver(median_rule(), total=5).run().searcher.adopted[:4] == second.searcher.adopted[:4]


def test_a_trial_that_failed_after_a_stop_was_decided_is_started_again(driver):
    first = driver()
    first.run()
    second = driver()
    second.recorder.reported("00000", second.reported("00000", 4).report, {}, stop=True)
    second.recorder.failed("00000", "its process is gone", "lost")
    assert driver().run().started[0] == "00000"


def test_a_trial_that_has_done_the_requested_iterations_is_finished(driver):
    first = driver(concurrency=1)
    first.run(first.reported("00000", 5))
    second = driver(max_iterations=5, concurrency=9)
    second.run(Returned("00000"))
    assert second.started == ["00000", "00001", "00002"], "for its last lines"
    assert second.status("00000") == "finished"


def test_a_complete_trial_repeats_failed_code_after_its_last_iteration(driver):
    first = driver(concurrency=1, total=1)
    first.run(first.reported("00000", LAST), failed("00000"))
    second = driver(total=1)
    second.run(Returned("00000"))
    [run] = second.executor.started
    assert run.start.iteration == LAST
    assert second.status("00000") == "finished"


def test_failures_of_an_earlier_driver_count(driver):
    for status in ("pending", "failed"):
        each = driver(total=1, max_failures=1)
        each.run(each.reported("00000", 1), failed("00000", ValueError("no such layer")))
        assert each.status("00000") == status


def test_a_trial_that_is_complete_and_never_reported_its_metric_has_failed(driver):
    first = driver(concurrency=1, total=1)
    report = first.reported("00000", LAST, saves=False)
    del report.report.metrics["loss"]
    first.run(report, dies_in="step")
    second = driver(total=1).run()
    assert (second.status("00000"), second.state.trials["00000"].kinds) == ("failed", ["unreported"])
    assert second.started == []


@pytest.mark.parametrize(
    ("iteration", "event", "ended"),
    [
        (LAST, Returned, "finished"),
        (4, Returned, "finished"),  # the function returned early
        (4, lambda trial: failed(trial, ValueError("no such layer")), "failed"),
        (LAST, lambda trial: failed(trial, ValueError("no upload")), "failed"),
    ],
)
def test_the_journal_has_the_final_status_of_a_trial(driver, iteration, event, ended):
    only = driver(concurrency=1, total=1)
    only.run(only.reported("00000", iteration), event("00000"))
    assert only.status("00000") == ended


def test_a_trial_that_reaches_its_timeout_is_stopped(driver):
    only = driver(concurrency=1, total=1, timeout=4.0)
    only.run(only.reported("00000", 3), only.reported("00000", 4))
    assert (only.status("00000"), only.executor.stopped) == ("stopped", ["00000"])
