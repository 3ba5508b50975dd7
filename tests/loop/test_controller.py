"""Ray's schedulers behind the controller: after a replay of the journal, they decide as if nothing had happened.

A script of what trials do next is played twice, the second time with a new controller from some event on: both journals
must be the same.
"""

import hashlib
import math
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
)
from ray.tune.schedulers.pb2 import PB2

from raysweep.history.checkpoint import Checkpoint, owner
from raysweep.history.sweep_state import SweepState
from raysweep.loop.controller import Controller, Decision
from raysweep.loop.loop import ENDED_BY
from raysweep.loop.recorder import KEEP_LAST, Recorder
from raysweep.loop.scheduler import Scheduler
from raysweep.loop.stopping import TrialLimits
from raysweep.ray_private import continue_from, one_bracket

MAX_T, TRIALS, METRIC = 9, 18, "accuracy"


def controller_of(scheduler, mode="max"):
    scheduler.set_search_properties(METRIC, mode)
    return Controller(Scheduler(scheduler, 0, mode), TrialLimits(MAX_T, (METRIC,)), MAX_T)


def asha(mode="max", eta=3):
    return controller_of(ASHAScheduler(max_t=MAX_T, grace_period=1, reduction_factor=eta), mode)


def median():
    return controller_of(MedianStoppingRule(time_attr="training_iteration", grace_period=1, min_samples_required=3))


def brackets():
    return controller_of(AsyncHyperBandScheduler(max_t=MAX_T, reduction_factor=3, brackets=2))


def hyperband(eta=3):
    return controller_of(HyperBandScheduler(max_t=MAX_T, reduction_factor=eta))


def halving(trials=TRIALS, eta=3):
    return controller_of(one_bracket(trials, 1, MAX_T, eta))


def population(synch=False, interval=2):
    return controller_of(
        PopulationBasedTraining(
            time_attr="training_iteration",
            perturbation_interval=interval,
            hyperparam_mutations={"lr": lambda: 1.0},
            quantile_fraction=0.4,
            synch=synch,
            log_config=False,
        )
    )


def pbt(interval=2):
    return population(False, interval)


def pbt_in_step(interval=2):
    return population(True, interval)


def pb2(interval=2):
    return controller_of(
        PB2(
            time_attr="training_iteration",
            perturbation_interval=interval,
            hyperparam_bounds={"lr": [0.1, 10.0]},
            quantile_fraction=0.4,
            log_config=False,
        )
    )


def draw(*key):
    """A number that depends on nothing but the key."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4], "big") / 2**32


def checkpoint(trial_id, iteration, *path):
    """Another one for each path that has led there, as their states would be."""
    name = f"{draw(*path):.8f}"
    return Checkpoint(f"checkpoints/{trial_id}/{iteration:06d}-{name}", iteration, 1, name)


class Driver:
    """Asks a controller as the loop does, one event at a time, and writes the journal as the recorder does."""

    def __init__(self, controller, journal=()):
        self.controller, self.journal = controller, list(journal)
        controller.replay(self.journal)

    def write(self, type, **fields):
        self.journal.append({"seq": len(self.journal) + 1, "type": type, **fields})

    def suggest(self, trial_id):
        config = {"lr": 1 + draw(trial_id)}
        self.write("suggest", trial=trial_id, config=config)
        self.controller.add(trial_id, config)

    def starts(self, trial_id):
        """What a trial that runs has gone on from."""
        if self.trial(trial_id).status != Trial.RUNNING:
            self.controller.started(trial_id)
        return self.controller.continues_from(trial_id)

    def trial(self, trial_id):
        return self.controller.trials[trial_id]

    def step(self, trial_id):
        """One more iteration of a trial, from where its checkpoint is."""
        start, config = self.starts(trial_id), self.trial(trial_id).config
        iteration = (start.name.iteration if start else 0) + 1
        value = draw("quality", trial_id) + 0.1 * iteration + 0.5 * draw(trial_id, iteration, config)
        saved = checkpoint(trial_id, iteration, start and start.path, config)
        decision = self.controller.report(trial_id, {METRIC: value, "training_iteration": iteration}, saved)
        if start and owner(start.path) != trial_id:
            donor = start.name.to_dict()
            self.write("exploit", trial=trial_id, donor=owner(start.path), checkpoint=donor, after=config)
        self.write(
            "result", trial=trial_id, iteration=iteration, metrics={METRIC: value}, checkpoint=saved.to_dict(),
            node="n", **({"stop": ENDED_BY[decision]} if decision in ENDED_BY else {}),
        )  # fmt: skip
        if decision in ENDED_BY:
            self.write("complete", trial=trial_id, status="finished" if iteration >= MAX_T else "stopped")
        self.end_stopped()

    def end_stopped(self):
        """Trials that the scheduler has ended while they waited."""
        for trial_id in self.controller.take_stopped():
            self.write("complete", trial=trial_id, status="stopped")

    def lose(self, trial_id):
        """The trial's process is gone, and it starts again from its checkpoint."""
        self.starts(trial_id)
        self.controller.requeue(trial_id)
        self.write("failure", trial=trial_id, error="gone", kind="lost")

    def give_up(self, trial_id):
        """It has failed for good."""
        self.starts(trial_id)
        self.write("failure", trial=trial_id, error="wrong", kind="exception")
        self.controller.end(trial_id, failed=True)
        self.write("complete", trial=trial_id, status="failed")
        self.end_stopped()

    def come_back(self, trial_id):
        """Its function returns before its last iteration."""
        self.starts(trial_id)
        self.controller.end(trial_id)
        self.write("complete", trial=trial_id, status="finished")
        self.end_stopped()

    @property
    def running(self):
        return [trial_id for trial_id, trial in self.controller.live.items() if trial.status == Trial.RUNNING]

    def fill(self, places):
        while len(self.running) < places and (chosen := self.controller.choose()) is not None:
            self.controller.started(chosen.trial_id)


HAPPENS = {"lose": 0.15, "give_up": 0.03, "come_back": 0.03}


def play(controller, parallel=6, trials=TRIALS, happens=HAPPENS, seed=1, of=Driver):
    """A sweep from its beginning: its driver at the end, and the script.

    A line of the script is the length of the journal before and after it, what was done, and to which trial.
    `parallel` is how many run at the same time; all of a scheduler that pauses trials are suggested at once.
    """
    driver, script, random = of(controller), [], np.random.default_rng(seed)
    waiting = [f"{n:05d}" for n in range(trials)]
    together = isinstance(controller.scheduler.ray, HyperBandScheduler | PopulationBasedTraining)

    def line(what, trial_id):
        began = len(driver.journal)
        getattr(driver, what)(trial_id)
        script.append((began, len(driver.journal), what, trial_id))

    while waiting or controller.live:
        while waiting and (together or len(controller.live) < parallel):
            line("suggest", waiting.pop(0))
        driver.fill(parallel)
        assert driver.running, "every trial waits for another one"
        trial_id = str(random.choice(driver.running))
        what = random.choice([*happens, "step"], p=[*happens.values(), 1 - sum(happens.values())])
        line(str(what), trial_id)
    return driver, script


def play_on(controller, journal, script):
    """The same script with a new controller that has replayed the earlier journal."""
    driver = Driver(controller, journal)
    stopped = controller.take_stopped()
    for began, ended, what, trial_id in script:
        if ended <= len(journal):
            continue
        if began >= len(journal):
            getattr(driver, what)(trial_id)
        else:
            finish_line(driver, what, trial_id, stopped)
    return driver


def finish_line(driver, what, trial_id, stopped):
    """The earlier driver was killed in the middle of this: the loop ends the trials that it had decided to end."""
    ended = {event["trial"] for event in driver.journal if event["type"] == "complete"}
    if what == "give_up" and trial_id not in ended:  # it was not yet decided: the trial starts again, and fails again
        driver.controller.end(trial_id, failed=True)
        driver.write("complete", trial=trial_id, status="failed")
    elif driver.trial(trial_id).is_finished() and trial_id not in ended:
        last = driver.journal[-1]["iteration"]
        driver.write("complete", trial=trial_id, status="finished" if last >= MAX_T else "stopped")
    for other in stopped + driver.controller.take_stopped():
        if other not in ended:
            driver.write("complete", trial=other, status="stopped")


ALL = [asha, median, brackets, hyperband, halving, pbt, pbt_in_step, pb2]
every_scheduler = pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
quietly = pytest.mark.filterwarnings("ignore")  # the Gaussian process of PB2


def few(make):
    """Trials of a sweep: a population looks at all of its trials each time, and PB2 fits a Gaussian process."""
    return 6 if make is pb2 else 10 if make in (pbt, pbt_in_step) else TRIALS


@quietly
@every_scheduler
@pytest.mark.parametrize("parallel", [1, 6])
def test_decides_after_a_resume_as_without_one(make, parallel):
    undisturbed, script = play(make(), parallel, few(make) if parallel > 1 else few(make) // 2)
    assert {"result", "complete", "failure"} <= {event["type"] for event in undisturbed.journal}
    for cut in range(0, len(undisturbed.journal) + 1, 9 if make is pb2 else 1):
        if cut and undisturbed.journal[cut - 1]["type"] == "exploit":
            continue  # written together with its result; by itself it would be decided again, to the same effect
        resumed = play_on(make(), undisturbed.journal[:cut], script)
        assert resumed.journal == undisturbed.journal, f"resumed after {cut} events"


@quietly
@every_scheduler
def test_the_trials_are_in_the_same_state(make):
    driver, script = play(make(), trials=few(make))
    journal = driver.journal[: script[len(script) // 2][0]]
    controller = make()
    controller.replay(journal)
    ended = {event["trial"] for event in journal if event["type"] == "complete"}
    assert {trial_id for trial_id, trial in controller.trials.items() if trial.is_finished()} == ended
    assert controller.live.keys() == controller.trials.keys() - ended
    assert all(trial.status in (Trial.PENDING, Trial.PAUSED) for trial in controller.live.values())
    assert controller.get_live_trials() == list(controller.live.values())
    assert set(controller.get_trials()) == set(controller.trials.values())


def adopted(journal, cut, size=20):
    """The next events of the journal that trials had saved: results and exploits of those that were begun, in step."""
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
            result = {name: value for name, value in event.items() if name != "stop"}
            saved.append((rank[trial], {**result, "adopted": True}))
    return [event for _, event in sorted(saved, key=lambda each: each[0])]


@quietly
@every_scheduler
def test_continues_to_the_end_after_adopting_results(make):
    """Their order may differ from the original one, and so may decisions; but no trial is lost or waits for ever."""
    undisturbed, _ = play(make(), trials=few(make), happens={})
    random = np.random.default_rng(1)
    for cut in range(1, len(undisturbed.journal), 25 if make is pb2 else 5):
        if undisturbed.journal[cut]["type"] == "complete":
            continue  # the result before it says that it comes, see `Loop`
        adopted_events = adopted(undisturbed.journal, cut)
        driver = Driver(make(), undisturbed.journal[:cut] + adopted_events)
        finished = {trial_id for trial_id, trial in driver.controller.trials.items() if trial.is_finished()}
        ended = {event["trial"] for event in driver.journal if event["type"] == "complete"}
        full = {event["trial"] for event in adopted_events if event["type"] == "result" and event["iteration"] >= MAX_T}
        assert finished >= ended | full
        # The same journal, with the ends that were decided from it, leads to the same state.
        for trial_id in finished - ended:
            driver.write("complete", trial=trial_id, status="stopped")
        driver.controller.take_stopped()
        twice = make()
        twice.replay(driver.journal)
        assert {i: t.status for i, t in twice.trials.items()} == statuses(driver.controller)
        for _ in range(1000):
            driver.fill(6)
            if not driver.running:
                break
            driver.step(str(random.choice(driver.running)))
        assert not driver.controller.live, f"cut after {cut} events: every trial waits for another one"


def statuses(controller):
    return {trial_id: trial.status for trial_id, trial in controller.trials.items()}


class Tidy(Driver):
    """Deletes what the recorder deletes, and sees that no trial is given it afterwards."""

    def __init__(self, controller):
        self.deleted, self.state = set(), SweepState()
        self.recorder = Recorder(None, SimpleNamespace(seq=0), self.state, METRIC, "max")
        self.recorder.close()
        self.recorder._cleaner = SimpleNamespace(submit=lambda delete, key, seq: self.deleted.add(key))
        super().__init__(controller)

    def write(self, type, **fields):
        super().write(type, **fields)
        self.state.apply(self.journal[-1])

    def step(self, trial_id):
        super().step(trial_id)
        self.recorder.expire(self.state.trials[trial_id], self.controller.needed)

    def starts(self, trial_id):
        start = super().starts(trial_id)
        assert start is None or start.path not in self.deleted
        return start


@quietly
@pytest.mark.parametrize("make", [pbt, pbt_in_step, pb2], ids=lambda make: make.__name__)
@pytest.mark.parametrize("parallel", [2, 6])
@pytest.mark.parametrize("seed", range(3))
def test_a_population_deletes_no_checkpoint_that_is_assigned_to_a_trial(make, parallel, seed):
    driver, _ = play(make(interval=4), parallel, trials=8, happens={"lose": 0.2}, seed=seed, of=Tidy)
    given = {event["checkpoint"]["key"] for event in driver.journal if event["type"] == "exploit"}
    assert given
    assert len(driver.deleted) > 10
    kept = [r for trial in driver.state.trials.values() for r in trial.results.values() if r.checkpoint]
    assert len(kept) <= 8 * (1 + KEEP_LAST + 2)  # the best, the last ones, one that is given and one that was
    driver.recorder.expire_all()
    kept = [r.checkpoint.key for trial in driver.state.trials.values() for r in trial.results.values() if r.checkpoint]
    assert len(kept) <= 8 * (1 + KEEP_LAST)
    assert not driver.deleted & {trial.checkpoint.key for trial in driver.state.trials.values()}


@pytest.mark.parametrize("make", [asha, median, brackets, hyperband, halving], ids=lambda make: make.__name__)
def test_without_exploits_a_trial_needs_its_own_checkpoints_only(make):
    """The newest of which is never deleted: nothing has to be looked through with each report."""
    driver, _ = play(make(), of=Tidy)
    assert driver.deleted
    assert driver.controller.needed() == set()


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
    driver, _ = play(asha(mode, eta), happens={}, seed=seed)
    results = [event for event in driver.journal if event["type"] == "result"]
    stopped = [event.get("stop", False) and event["iteration"] < MAX_T for event in results]
    assert sum(stopped) > 5
    reports = [(event["iteration"], event["metrics"][METRIC]) for event in results]
    assert stopped == list(rule_of_the_paper(reports, eta, mode))


def test_an_asha_that_forgot_its_rungs_decides_otherwise():
    # What Ray does on a restore: the reason why there is a replay at all.
    driver, script = play(asha(), happens={})
    at = next(i for i, event in enumerate(driver.journal) if event.get("status") == "stopped")
    [line] = [line for line in script if line[0] <= at < line[1]]
    forgetful = Driver(asha())
    forgetful.suggest(line[3])
    forgetful.step(line[3])
    assert "stop" not in forgetful.journal[-1]


def test_a_trial_that_starts_again_keeps_its_bracket_and_the_others_theirs():
    def dealt(times):
        driver = Driver(brackets())
        for trial_id in (f"{n:05d}" for n in range(TRIALS)):
            driver.suggest(trial_id)
            for _ in range(times):
                driver.lose(trial_id)
        inner = driver.controller.scheduler.ray
        return [inner._brackets.index(bracket) for bracket in inner._trial_info.values()]

    undisturbed = dealt(times=0)
    assert set(undisturbed) == {0, 1}
    assert dealt(times=2) == undisturbed


def test_a_trial_that_failed_for_good_leaves_its_results_behind():
    driver = Driver(asha())
    driver.suggest("00000")
    driver.step("00000")
    driver.give_up("00000")
    controller = asha()
    controller.replay(driver.journal)
    controller.add("00001", {"lr": 1.0})
    assert controller.report("00001", {"training_iteration": 1, METRIC: -1.0}) is Decision.STOP


@pytest.mark.parametrize("way", ["give_up", "come_back", "lose"])
@pytest.mark.parametrize(("make", "meet"), [("halving", 1), ("halving", 3), ("pbt_in_step", 2), ("pbt_in_step", 4)])
@pytest.mark.parametrize("resumed", [False, True], ids=["at once", "resumed"])
def test_paused_trials_are_released_when_the_last_one_never_reports(way, make, meet, resumed):
    """Ray's own do, but for the first rung of HyperBand: nothing but a result makes them look."""

    def new():
        return halving(4) if make == "halving" else pbt_in_step()

    driver = Driver(new())
    for number in range(4):
        driver.suggest(f"{number:05d}")
    getattr(driver, way)(last_to_meet(driver, meet))
    if resumed:
        driver = Driver(new(), driver.journal)
    for _ in range(40):
        driver.fill(4)
        for trial_id in driver.running[:1]:
            driver.step(trial_id)
    assert not driver.controller.live


def last_to_meet(driver, meet):
    """The trial that has not done this iteration, when all others wait for it there."""
    while True:
        driver.fill(4)
        before = [trial_id for trial_id in driver.running if iteration_of(driver, trial_id) < meet]
        if len(driver.running) == 1 and iteration_of(driver, before[0]) == meet - 1:
            return before[0]
        driver.step(min(before, key=lambda trial_id: iteration_of(driver, trial_id)))


def iteration_of(driver, trial_id):
    start = driver.controller.continues_from(trial_id)
    return start.name.iteration if start else 0


def test_a_promoted_trial_that_is_beyond_the_next_rung_does_not_wait_for_ever():
    """The metric comes with every fourth iteration: at the rungs 1, 2 and 4 all trials are at 4."""
    controller = halving(8, eta=2)
    for number in range(8):
        controller.add(f"{number:05d}", {})
    at = dict.fromkeys(controller.trials, 0)
    while controller.live:
        chosen = controller.choose()
        assert chosen, "every trial waits for another one"
        controller.started(chosen.trial_id)
        decision = Decision.GO_ON
        while decision is Decision.GO_ON:
            at[chosen.trial_id] += 1
            metrics = {METRIC: draw(chosen.trial_id)} if at[chosen.trial_id] % 4 == 0 else {}
            decision = controller.report(chosen.trial_id, {**metrics, "training_iteration": at[chosen.trial_id]})
    assert sorted(at.values()) == [4] * 7 + [MAX_T]


def test_a_replay_gives_the_median_rule_the_last_result_of_a_returned_trial_again():
    """Live all three ran; in a replay who has not reported yet seems to wait, so that the others seem to be paused."""

    def returned(driver):
        for number in range(3):
            driver.suggest(f"{number:05d}")
        driver.fill(3)
        for _ in range(2):
            for number in range(3):
                driver.step(f"{number:05d}")
        for number in range(3):
            driver.come_back(f"{number:05d}")

    driver = Driver(median())
    returned(driver)
    controller = median()
    controller.replay(driver.journal)
    results_of = [
        [[result["training_iteration"] for result in results] for results in each.scheduler.ray._results.values()]
        for each in (driver.controller, controller)
    ]
    assert results_of[1] == results_of[0] == [[1, 2, 2]] * 3


def test_a_result_without_the_metric_is_not_shown_to_the_scheduler():
    controller = asha()
    received = []
    controller.scheduler.ray.on_trial_result = lambda *arguments: received.append(arguments[2]) or "CONTINUE"
    controller.add("00000", {})
    assert controller.report("00000", {"training_iteration": 1, "other": 1.0}) is Decision.GO_ON
    assert controller.report("00000", {"training_iteration": 2, METRIC: 1.0}) is Decision.GO_ON
    assert [result["training_iteration"] for result in received] == [2]


def test_the_last_result_ends_a_trial_though_it_has_no_metric():
    controller = asha()
    controller.add("00000", {})
    assert controller.report("00000", {"training_iteration": MAX_T}) is Decision.COMPLETE
    assert not controller.live


def test_a_result_that_is_not_finite_ends_a_trial():
    controller = asha()
    controller.add("00000", {})
    assert controller.report("00000", {"training_iteration": 1, METRIC: math.nan}) is Decision.LIMIT
    assert not controller.live


def test_a_scheduler_may_end_any_trial():
    controller = controller_of(FIFOScheduler())
    for trial_id in ("runs", "waits"):
        controller.add(trial_id, {})
    controller.report("runs", {"training_iteration": 1, METRIC: 1.0})
    for trial in controller.get_live_trials():
        controller.stop_trial(trial)
        controller.stop_trial(trial)
    assert controller.take_stopped() == ["runs", "waits"]
    assert controller.take_stopped() == []
    assert controller.choose() is None


def test_an_exploit_that_was_decided_but_not_begun_survives_the_driver():
    driver, _ = play(pbt(), parallel=1, trials=8, happens={})
    exploit = next(i for i, event in enumerate(driver.journal) if event["type"] == "exploit")
    event = driver.journal[exploit]
    controller = pbt()
    controller.replay(driver.journal[:exploit])
    saved = controller.continues_from(event["trial"])
    assert saved.name.to_dict() == event["checkpoint"]
    assert saved.metrics[METRIC]
    assert controller.trials[event["trial"]].config == event["after"]
    assert saved.path in controller.needed()


def test_a_replayed_exploit_has_the_donors_time_though_the_donor_has_gone_on():
    donated = {"training_iteration": 2, "time_total_s": 20.0}
    saved, later = (checkpoint("00000", n, "donor", n) for n in (2, 3))
    controller = controller_of(FIFOScheduler())
    for trial_id in ("00000", "00001"):
        controller.add(trial_id, {"lr": 1.0})
    controller.report("00000", donated, saved)
    continue_from(controller.trials["00001"], controller.saved(controller.trials["00000"]))  # as PBT decided it
    controller.report("00000", {"training_iteration": 3, "time_total_s": 30.0}, later)
    event = {"seq": 9, "type": "exploit", "trial": "00001", "donor": "00000", "after": {"lr": 2.0}}
    controller.replay([{**event, "checkpoint": saved.to_dict()}])
    assert controller.continues_from("00001").metrics == donated
