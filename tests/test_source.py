"""Where trials come from, and how they ended: from what Ray says, and from a journal that lacks a last word."""

from types import SimpleNamespace

import pytest
from ray import tune
from ray.train._internal.storage import StorageContext
from ray.tune.schedulers import FIFOScheduler, MedianStoppingRule

from raysweep import journal
from raysweep.checkpoint import save
from raysweep.failure import Kind
from raysweep.journal import Journal
from raysweep.record import Recorder
from raysweep.source import TrialSource, outcome
from raysweep.state import SweepState
from raysweep.storage import FolderStorage
from raysweep.trial import Session, TrialSpec, trainable
from raysweep.variants import Variants

LAST = 9
SPACE = {"lr": tune.uniform(0.0, 1.0)}


@pytest.mark.parametrize(
    ("iteration", "done", "error", "stop_decided", "ended"),
    [
        (LAST, True, False, True, "finished"),  # all iterations done: Tune's own stop
        (LAST + 1, True, False, True, "finished"),
        (LAST, False, False, False, "finished"),
        (4, True, False, True, "stopped"),  # a scheduler, or a time limit
        (4, True, False, False, "finished"),  # the function returned early
        (4, False, False, False, "stopped"),  # ended from outside, at a time budget
        (None, None, False, False, "stopped"),  # while it waited
        (0, None, False, False, "stopped"),  # before its first result
        (None, None, True, False, "failed"),
        (4, True, True, True, "failed"),
        (LAST, True, True, False, "failed"),
    ],
)
def test_outcome(iteration, done, error, stop_decided, ended):
    result = None if iteration is None else {"training_iteration": iteration, "done": done}
    assert outcome(result, error, stop_decided, LAST) == ended


def test_an_empty_result_is_a_trial_that_reported_nothing():
    assert outcome({}, False, False, LAST) == "stopped"


class Watched(Variants):
    """Random search that shows what it was told to take over."""

    def begin(self, adopted):
        self.adopted = [(trial.id, trial.status) for trial in adopted]
        super().begin(adopted)


def median_rule():
    rule = MedianStoppingRule(time_attr="training_iteration", grace_period=1, min_samples_required=3)
    rule.set_search_properties("loss", "min")
    return rule


class Driver:
    """One life of a driver, up to where Ray would start trials: what it was told is in the journal."""

    def __init__(self, place, scheduler=None, samples=3, max_iterations=LAST, adopt=False):
        self.place = place
        state = SweepState(journal.read(place))
        self.journal = Journal(place, len(place.list("journal/")) + 1, state.seq)
        self.recorder = Recorder(place, self.journal, state, "loss", "min")
        if adopt:
            self.recorder.begin(resumed=True)
        self.scheduler = scheduler or FIFOScheduler()
        searcher = Watched(SPACE)
        self.source = TrialSource(searcher, self.recorder, 2, self.scheduler, max_iterations, self.ends)
        tune.register_trainable("mine", trainable(TrialSpec(lambda config: None, None, place, LAST), "mine"))
        scratch = StorageContext(storage_path=place.url, experiment_dir_name="scratch")
        spec = {"run": "mine", "config": SPACE, "num_samples": samples, "storage": scratch}
        self.source.add_configurations([SimpleNamespace(spec=spec)])
        self.adopted = searcher.adopted

    @staticmethod
    def ends(trial_id, result):
        return result["training_iteration"] >= LAST

    def decide(self, trial, iteration, loss):
        """As Ray's controller: the scheduler decides, then the recorder is told."""
        controller = SimpleNamespace(get_live_trials=list)
        decision = self.scheduler.on_trial_result(controller, trial, {"training_iteration": iteration, "loss": loss})
        self.result(trial, iteration, done=decision == "STOP", loss=loss)
        return decision

    def result(self, trial, iteration, done=False, loss=1.0):
        saved = save(self.place, trial.trial_id, iteration, iteration).to_dict()
        result = {"training_iteration": iteration, "loss": loss, "config": trial.config, "done": done}
        self.recorder.on_trial_result(0, [], trial, {**result, "checkpoint": saved})

    def killed(self):
        """The driver is gone, without an `end` in its journal."""
        self.recorder.close()
        self.journal.close()


@pytest.fixture
def driver(tmp_path):
    """Begins a driver on the sweep; the one before it is killed."""
    begun = []

    def begin(scheduler=None, **options):
        if begun:
            begun[-1].killed()
        begun.append(Driver(FolderStorage(str(tmp_path)), scheduler, **options))
        return begun[-1]

    yield begin
    begun[-1].killed()


def drain(driver):
    """The trials that Ray is given to start, while none of them ends."""
    driver.source._concurrency = 99
    given = []
    while (trial := driver.source.next_trial()) is not None:
        given.append(trial)
    return given


def test_trials_are_numbered_and_as_many_as_samples(driver):
    only = driver()
    assert [trial.trial_id for trial in drain(only)] == ["00000", "00001", "00002"]
    assert only.source.is_finished()
    assert [event["type"] for event in journal.read(only.place)] == ["suggest"] * 3


def test_no_more_trials_than_the_concurrency_are_given(driver):
    source = driver().source
    assert [source.next_trial() is None for _ in range(3)] == [False, False, True]


def test_a_killed_drivers_trial_is_given_again_with_its_checkpoint_before_new_ones(driver):
    first = driver()
    trial = first.source.next_trial()
    first.result(trial, 1)
    again, new, _ = drain(driver())
    assert (again.trial_id, again.config) == (trial.trial_id, trial.config)
    assert again.checkpoint.path.startswith("checkpoints/00000/000001-")
    assert (new.trial_id, new.checkpoint) == ("00001", None)


def test_an_ended_trial_is_not_given_again(driver):
    first = driver()
    first.result(first.source.next_trial(), LAST, done=True)
    first.source.on_trial_complete("00000", {"training_iteration": LAST, "done": True})
    assert [trial.trial_id for trial in drain(driver())] == ["00001", "00002"]


@pytest.mark.parametrize("scheduler", [FIFOScheduler, MedianStoppingRule], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("iteration", "ended"), [(LAST, "finished"), (4, "stopped")])
def test_a_trial_whose_end_was_decided_is_not_given_again(driver, iteration, ended, scheduler):
    # Killed between the last result, which Ray tells the recorder, and the end, which it tells the source after that.
    first = driver()
    first.result(first.source.next_trial(), iteration, done=True)
    chosen = scheduler()
    chosen.set_search_properties("loss", "min")
    second = driver(chosen)
    # Before the searcher takes the trials over: it is told that this one has ended.
    assert second.adopted == [("00000", ended)]
    assert [trial.trial_id for trial in drain(second)] == ["00001", "00002"]
    third = driver()
    assert third.recorder.state.trials["00000"].status == ended
    assert [event["type"] for event in journal.read(third.place) if event.get("trial") == "00000"] == [
        "suggest",
        "result",
        "complete",
    ]


def test_a_stop_that_the_median_decided_outlives_a_killed_driver(driver):
    first = driver(median_rule(), samples=5)
    trials = drain(first)
    decisions = [first.decide(trial, 1, loss) for trial, loss in zip(trials, (0.1, 0.2, 0.3, 0.9), strict=False)]
    assert decisions == ["CONTINUE", "CONTINUE", "CONTINUE", "STOP"]
    second = driver(median_rule(), samples=5)
    assert second.recorder.state.trials["00003"].status == "stopped"
    again = {trial.trial_id: trial for trial in drain(second)}
    assert list(again) == ["00000", "00001", "00002", "00004"]
    # The median is 0.25, and 0.2 for a rule that has forgotten the stopped trial.
    assert second.decide(again["00004"], 1, 0.25) == "CONTINUE"


def test_what_was_adopted_is_decided_on(driver):
    """The driver that would have decided was killed; its trial has the result that stops it."""
    first = driver(median_rule(), samples=5)
    trials = drain(first)
    for trial, loss in zip(trials, (0.1, 0.2, 0.3), strict=False):
        first.decide(trial, 1, loss)
    session = Session("00003", first.place, LAST, config=trials[3].config)
    session._go.release()
    session.report({"loss": 0.9}, state="x")
    second = driver(median_rule(), samples=5, adopt=True)
    assert second.recorder.state.trials["00003"].status == "stopped"
    assert ("00003", "stopped") in second.adopted
    assert [trial.trial_id for trial in drain(second)] == ["00000", "00001", "00002", "00004"]
    third = driver(median_rule(), samples=5, adopt=True)
    assert third.adopted[:4] == second.adopted[:4]


def test_a_trial_that_failed_after_a_stop_was_decided_is_given_again(driver):
    first = driver()
    trial = first.source.next_trial()
    first.result(trial, 4, done=True)
    first.recorder.on_trial_recover(0, [], SimpleNamespace(trial_id=trial.trial_id, error_file=None, kind=Kind.LOST))
    assert drain(driver())[0].trial_id == "00000"


def test_a_trial_that_has_done_the_iterations_that_are_asked_for_now_is_finished(driver):
    first = driver()
    first.result(first.source.next_trial(), 5)
    second = driver(max_iterations=5)
    assert [trial.trial_id for trial in drain(second)] == ["00001", "00002"]
    assert second.recorder.state.trials["00000"].status == "finished"
