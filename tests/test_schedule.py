"""Schedulers after a resume: told the journal again, they decide as if nothing had happened.

`Tune` does to a scheduler what Ray's controller does: a result that completes a trial is not shown to
`on_trial_result`; a trial that is stopped while it waits goes through `on_trial_remove`; its end is in the journal
before the result that caused it. A script of who reports next is played twice, the second time with a new scheduler
from some event on: both journals must be the same.
"""

import hashlib
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.schedulers.pb2 import PB2

from raysweep.checkpoint import Checkpoint, owner
from raysweep.record import KEEP_LAST, Recorder
from raysweep.schedule import Schedule, replay
from raysweep.state import SweepState
from raysweep.trial import pointer

MAX_T, TRIALS = 9, 18


def asha(mode="max", eta=3):
    return Schedule(metric(ASHAScheduler(max_t=MAX_T, grace_period=1, reduction_factor=eta), mode), seed=0)


def median():
    rule = MedianStoppingRule(time_attr="training_iteration", grace_period=1, min_samples_required=3)
    return Schedule(metric(rule), seed=0)


def brackets():
    return Schedule(metric(AsyncHyperBandScheduler(max_t=MAX_T, reduction_factor=3, brackets=2)), seed=0)


def hyperband():
    return Schedule(metric(HyperBandScheduler(max_t=MAX_T, reduction_factor=3)), seed=0)


def pbt(synch=False, interval=2):
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=interval,
        hyperparam_mutations={"lr": lambda: 1.0},
        quantile_fraction=0.4,
        synch=synch,
        log_config=False,
    )
    return Schedule(metric(scheduler), seed=0)


def pbt_in_step(interval=2):
    return pbt(True, interval)


def pb2(interval=2):
    scheduler = PB2(
        time_attr="training_iteration",
        perturbation_interval=interval,
        hyperparam_bounds={"lr": [0.1, 10.0]},
        quantile_fraction=0.4,
        log_config=False,
    )
    return Schedule(metric(scheduler), seed=0)


def metric(scheduler, mode="max"):
    scheduler.set_search_properties("accuracy", mode)
    return scheduler


def new_trial(trial_id, config):
    return Trial("none", stub=True, trial_id=trial_id, config=dict(config))


def ends(trial_id, result):
    return result["training_iteration"] >= MAX_T


def draw(*key):
    """A number that depends on nothing but the key."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4], "big") / 2**32


@dataclass
class Saved:
    """What Ray's controller gives a scheduler that asks for a checkpoint."""

    result: object

    def resolve(self, block=True):
        return self.result


@dataclass
class Tune:
    """Ray's controller, one decision at a time; `journal` is what raysweep writes meanwhile."""

    schedule: Schedule
    trials: dict[str, Trial] = field(default_factory=dict)
    journal: list[dict] = field(default_factory=list)
    search_alg = None

    def write(self, type, **fields):
        self.journal.append({"seq": len(self.journal) + 1, "type": type, **fields})

    def suggest(self, trial_id):
        trial = self.trials[trial_id] = new_trial(trial_id, {"lr": 1 + draw(trial_id)})
        self.write("suggest", trial=trial_id, config=dict(trial.config))
        self.schedule.on_trial_add(self, trial)

    def step(self, trial_id):
        """One more iteration of a trial, from where its checkpoint is."""
        trial = self.trials[trial_id]
        started = self.start(trial)
        result = {"training_iteration": started + 1, "time_total_s": 0.0}
        result["accuracy"] = draw("quality", trial_id) + 0.1 * started + 0.5 * draw(trial_id, started, trial.config)
        self.saved = checkpoint(trial, started + 1)
        before = trial.checkpoint
        decision = "STOP" if ends(trial_id, result) else self.schedule.on_trial_result(self, trial, dict(result))
        self.write(
            "result",
            trial=trial_id,
            iteration=started + 1,
            metrics={"accuracy": result["accuracy"]},
            checkpoint=self.saved.to_dict(),
            node="n",
        )
        if trial.checkpoint is before:  # else PBT has just given it a donor's
            give(trial, self.saved)
        if decision == TrialScheduler.STOP:
            self.schedule.on_trial_complete(self, trial, dict(result))
            self.ended(trial, "finished" if ends(trial_id, result) else "stopped")
        elif decision == TrialScheduler.PAUSE:
            trial.set_status(Trial.PAUSED)

    def start(self, trial):
        trial.set_status(Trial.RUNNING)
        if trial.checkpoint is None:
            return 0
        key = trial.checkpoint.path
        if owner(key) != trial.trial_id:
            donor = {**checkpoint(self.trials[owner(key)], iteration_of(key)).to_dict(), "key": key}
            self.write("exploit", trial=trial.trial_id, donor=owner(key), checkpoint=donor, after=dict(trial.config))
        return iteration_of(key)

    def fail(self, trial_id):
        """The trial's worker is gone, and it starts again from its checkpoint."""
        trial = self.trials[trial_id]
        trial.set_status(Trial.ERROR)
        self.schedule.on_trial_error(self, trial)
        trial.set_status(Trial.PENDING)
        self.schedule.on_trial_add(self, trial)
        self.write("failure", trial=trial_id, error="gone", kind="lost")

    def ended(self, trial, status):
        trial.set_status(Trial.TERMINATED)
        self.write("complete", trial=trial.trial_id, status=status)

    def get_trials(self):
        return list(self.trials.values())

    def get_live_trials(self):
        return [trial for trial in self.trials.values() if not trial.is_finished()]

    def stop_trial(self, trial):
        if not trial.is_finished():
            self.schedule.on_trial_remove(self, trial)
            self.ended(trial, "stopped")

    def pause_trial(self, trial, should_checkpoint=True):
        trial.set_status(Trial.PAUSED)

    def _schedule_trial_save(self, trial, result=None):
        return pointer(self.saved, {}).checkpoint


def checkpoint(trial, iteration):
    return Checkpoint(f"checkpoints/{trial.trial_id}/{iteration:06d}-hash", iteration, 1, "hash")


def iteration_of(key):
    return int(key.split("/")[-1][:6])


def give(trial, saved):
    trial.run_metadata.checkpoint_manager._latest_checkpoint_result = pointer(saved, {})


class Tidy(Tune):
    """Deletes what the recorder deletes, and sees that no trial is given it afterwards."""

    def __init__(self, schedule):
        super().__init__(schedule)
        self.deleted, self.state = set(), SweepState()
        interval = self.schedule.scheduler._perturbation_interval
        self.recorder = Recorder(None, SimpleNamespace(seq=0), self.state, "accuracy", "max", interval)
        self.recorder.close()
        self.recorder._cleaner = SimpleNamespace(submit=lambda delete, key, seq: self.deleted.add(key))

    def write(self, type, **fields):
        super().write(type, **fields)
        self.state.apply(self.journal[-1])

    def step(self, trial_id):
        super().step(trial_id)
        given = {trial.checkpoint.path for trial in self.get_trials() if trial.checkpoint}
        self.recorder.expire(self.state.trials[trial_id], self.recorder._exploited, given)

    def start(self, trial):
        assert trial.checkpoint is None or trial.checkpoint.path not in self.deleted
        return super().start(trial)


def play(schedule, parallel=6, trials=TRIALS, failures=0.2, seed=1, of=Tune):
    """A sweep from its beginning: the controller at its end, and the script.

    A line of the script is the length of the journal before and after it, what was done, and to which trial.
    `parallel` is how many run at the same time; all of a scheduler that pauses trials are suggested at once.
    """
    tune, script, random = of(schedule), [], np.random.default_rng(seed)
    waiting = [f"{n:05d}" for n in range(trials)]
    together = isinstance(schedule.scheduler, HyperBandScheduler | PopulationBasedTraining)

    def line(what, trial_id):
        began = len(tune.journal)
        getattr(tune, what)(trial_id)
        script.append((began, len(tune.journal), what, trial_id))

    while waiting or tune.get_live_trials():
        while waiting and (together or len(tune.get_live_trials()) < parallel):
            line("suggest", waiting.pop(0))
        running = [trial for trial in tune.get_live_trials() if trial.status == Trial.RUNNING]
        while len(running) < parallel and (chosen := schedule.choose_trial_to_run(tune)) is not None:
            chosen.set_status(Trial.RUNNING)
            running.append(chosen)
        assert running, "every trial waits for another one"
        trial_id = str(random.choice([trial.trial_id for trial in running]))
        line("fail" if random.random() < failures else "step", trial_id)
    return tune, script


def play_on(schedule, journal, script):
    """The same script with a new scheduler that has heard the journal of before."""
    tune = Tune(schedule, journal=list(journal))
    tune.trials = replay(schedule, journal, new_trial, ends)
    for began, ended, what, trial_id in script:
        if ended <= len(journal):
            continue
        if any(event["type"] == "result" for event in journal[began:]):
            # Killed between a trial's last result and its end: `TrialSource` ends it.
            trial, last = tune.trials[trial_id], journal[-1]
            tune.schedule.on_trial_complete(tune, trial, {**last["metrics"], "training_iteration": last["iteration"]})
            tune.ended(trial, "finished" if last["iteration"] >= MAX_T else "stopped")
        else:
            getattr(tune, what)(trial_id)
    return tune


ALL = [asha, median, brackets, hyperband, pbt, pbt_in_step, pb2]


@pytest.mark.filterwarnings("ignore")  # the Gaussian process of PB2
@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_decides_after_a_resume_as_without_one(make):
    undisturbed, script = play(make(), trials=8 if make is pb2 else TRIALS)
    assert {"result", "complete", "failure"} <= {event["type"] for event in undisturbed.journal}
    step = 7 if make is pb2 else 1
    for cut in range(0, len(undisturbed.journal) + 1, step):
        if cut and undisturbed.journal[cut - 1]["type"] == "exploit":
            continue  # written together with its result; by itself it would be told again, to the same effect
        resumed = play_on(make(), undisturbed.journal[:cut], script)
        assert resumed.journal == undisturbed.journal, f"resumed after {cut} events"


@pytest.mark.filterwarnings("ignore")  # the Gaussian process of PB2
@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_the_trials_are_where_they_were(make):
    schedule = make()
    tune, _ = play(schedule, trials=8 if make is pb2 else TRIALS)
    journal = tune.journal[: len(tune.journal) // 2]
    trials = replay(make(), journal, new_trial, ends)
    ended = {event["trial"] for event in journal if event["type"] == "complete"}
    assert {trial_id for trial_id, trial in trials.items() if trial.is_finished()} == ended
    assert all(trial.status in (Trial.PENDING, Trial.PAUSED, Trial.TERMINATED) for trial in trials.values())


def adopted(journal, cut, size=20):
    """What of the journal's next events trials had saved: results and exploits of those that were begun, in step."""
    begun = {event["trial"] for event in journal[:cut]}
    lost = [event for event in journal[cut : cut + size] if event["trial"] in begun]
    saved, before, rank = [], [], dict.fromkeys(begun, 0)
    for event in lost:
        if event["type"] == "exploit":
            before.append(event)
        if event["type"] == "result":
            trial = event["trial"]
            rank[trial] = max(rank[trial], event["iteration"])
            saved += [(rank[trial], each) for each in before if each["trial"] == trial]
            before = [each for each in before if each["trial"] != trial]
            saved.append((rank[trial], {**event, "adopted": True}))
    return [event for _, event in sorted(saved, key=lambda each: each[0])]


@pytest.mark.filterwarnings("ignore")  # the Gaussian process of PB2
@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_goes_on_to_the_end_from_what_was_adopted(make):
    """Their order may be another than it was, and so may decisions; no trial is lost, and none waits for ever."""
    undisturbed, _ = play(make(), trials=8 if make is pb2 else TRIALS, failures=0)
    random = np.random.default_rng(1)
    for cut in range(1, len(undisturbed.journal), 5):
        if undisturbed.journal[cut]["type"] == "complete":
            continue  # the result before it says that it comes, see `TrialSource`
        found = adopted(undisturbed.journal, cut)
        journal = undisturbed.journal[:cut] + found
        schedule = make()
        tune = Tune(schedule, journal=list(journal))
        tune.trials = replay(schedule, journal, new_trial, ends)
        ended = {event["trial"] for event in journal if event["type"] == "complete"}
        full = {event["trial"] for event in found if event["type"] == "result" and event["iteration"] >= MAX_T}
        assert {trial_id for trial_id, trial in tune.trials.items() if trial.is_finished()} >= ended | full
        # The same journal, with the ends that were decided from it, leads to the same state.
        told = [event for event in journal if event["type"] != "complete" or event["trial"] in ended]
        told += [
            {"type": "complete", "trial": trial_id, "status": "stopped"}
            for trial_id, trial in tune.trials.items()
            if trial.is_finished() and trial_id not in ended
        ]
        twice = replay(make(), told, new_trial, ends)
        assert {i: t.status for i, t in twice.items()} == {i: t.status for i, t in tune.trials.items()}
        for _ in range(1000):
            live = tune.get_live_trials()
            running = [trial for trial in live if trial.status == Trial.RUNNING]
            while len(running) < 6 and (chosen := schedule.choose_trial_to_run(tune)) is not None:
                chosen.set_status(Trial.RUNNING)
                running.append(chosen)
            if not running:
                break
            tune.step(str(random.choice([trial.trial_id for trial in running])))
        assert not tune.get_live_trials(), f"cut after {cut} events: every trial waits for another one"


@pytest.mark.filterwarnings("ignore")  # the Gaussian process of PB2
@pytest.mark.parametrize("make", [pbt, pbt_in_step, pb2], ids=lambda make: make.__name__)
@pytest.mark.parametrize("parallel", [2, 6])
@pytest.mark.parametrize("seed", range(3))
def test_a_population_deletes_no_checkpoint_that_a_trial_is_given(make, parallel, seed):
    tune, _ = play(make(interval=4), parallel, trials=8, seed=seed, of=Tidy)
    given = {event["checkpoint"]["key"] for event in tune.journal if event["type"] == "exploit"}
    assert given
    assert len(tune.deleted) > 10
    kept = [r for trial in tune.state.trials.values() for r in trial.results.values() if r.checkpoint]
    assert len(kept) <= 8 * (1 + 5 + 1)  # the best, those of an interval, and what trials went on from
    tune.recorder.expire_all()
    kept = [r.checkpoint.key for trial in tune.state.trials.values() for r in trial.results.values() if r.checkpoint]
    assert len(kept) <= 8 * (1 + KEEP_LAST)
    assert not tune.deleted & {trial.checkpoint.key for trial in tune.state.trials.values()}


def rule_of_the_paper(results, eta, mode):
    """Asynchronous successive halving: a trial stops at a rung r eta^k unless it is in the top 1/eta there."""
    sign = 1 if mode == "max" else -1
    rungs = {eta**k: [] for k in range(10) if eta**k < MAX_T}
    for iteration, value in results:
        before = rungs.get(iteration, [])
        cutoff = np.nanpercentile(before, (1 - 1 / eta) * 100) if before else -np.inf
        if iteration in rungs:
            rungs[iteration].append(sign * value)
        yield iteration in rungs and sign * value < cutoff


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("eta", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_asha_decides_as_the_paper_says(mode, eta, seed):
    tune, _ = play(asha(mode, eta), failures=0.0, seed=seed)
    events = [(a, b) for a, b in zip(tune.journal, [*tune.journal[1:], {}], strict=True) if a["type"] == "result"]
    results = [(result["iteration"], result["metrics"]["accuracy"]) for result, _ in events]
    stopped = [(after.get("type"), after.get("status")) == ("complete", "stopped") for _, after in events]
    assert sum(stopped) > 5
    assert stopped == list(rule_of_the_paper(results, eta, mode))


def test_an_asha_that_forgot_its_rungs_decides_otherwise():
    # What Ray does on a restore: the reason why there is a replay at all.
    tune, script = play(asha())
    at = next(i for i, event in enumerate(tune.journal) if event.get("status") == "stopped")
    [line] = [line for line in script if line[0] <= at < line[1]]
    forgetful = Tune(asha())
    forgetful.suggest(line[3])
    forgetful.step(line[3])
    assert forgetful.journal[-1]["type"] == "result"


def test_a_trial_that_starts_again_keeps_its_bracket_and_the_others_theirs():
    def deal(times):
        schedule = brackets()
        for trial in (new_trial(f"{n:05d}", {}) for n in range(TRIALS)):
            for _ in range(times):  # Ray adds a trial again that has failed
                schedule.on_trial_add(None, trial)
        inner = schedule.scheduler
        return [inner._brackets.index(bracket) for bracket in inner._trial_info.values()]

    undisturbed = deal(times=1)
    assert set(undisturbed) == {0, 1}
    assert deal(times=3) == undisturbed


def test_a_trial_that_failed_for_good_leaves_its_results_behind():
    tune = Tune(asha())
    tune.suggest("00000")
    tune.step("00000")
    tune.write("failure", trial="00000", error="killed")
    tune.write("complete", trial="00000", status="failed")
    schedule = asha()
    replay(schedule, tune.journal, new_trial, ends)
    schedule.on_trial_add(None, worse := new_trial("00001", {}))
    assert schedule.on_trial_result(None, worse, {"training_iteration": 1, "accuracy": -1.0}) == TrialScheduler.STOP


def test_a_bracket_does_not_wait_for_a_trial_that_failed_for_good():
    tune, _ = play(hyperband(), failures=0.0)
    schedule = hyperband()
    journal = [event for event in tune.journal if event["type"] == "suggest"]
    trials = replay(schedule, journal, new_trial, ends)
    rest = Tune(schedule, trials, journal)
    first, *others = trials
    trials[first].set_status(Trial.RUNNING)
    schedule.on_trial_error(rest, trials[first])
    rest.ended(trials[first], "failed")
    for trial_id in others:
        rest.step(trial_id)
    assert schedule.choose_trial_to_run(rest) is not None


def test_the_same_seed_draws_the_same_and_another_one_something_else():
    def dealt(seed):
        schedule = Schedule(metric(AsyncHyperBandScheduler(max_t=MAX_T, reduction_factor=3, brackets=2)), seed)
        for n in range(TRIALS):
            schedule.on_trial_add(None, new_trial(f"{n:05d}", {}))
        return [schedule.scheduler._brackets.index(bracket) for bracket in schedule.scheduler._trial_info.values()]

    assert dealt(1) == dealt(1) != dealt(2)


def test_is_what_tune_takes_for_the_scheduler():
    schedule = Schedule(FIFOScheduler(), seed=0)
    assert schedule.set_search_properties("accuracy", "max")
    assert schedule.supports_buffered_results
    assert not hyperband().supports_buffered_results
    assert hyperband().metric == "accuracy"
    assert "HyperBand" in hyperband().debug_string()
