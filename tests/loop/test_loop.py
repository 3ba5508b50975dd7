"""The loop's own behaviour, with the real strategies of jobs/ on the simulation."""

import math
import os
import signal
from dataclasses import replace

import pytest
from ray import tune
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from raysweep.errors import SweepFailed
from raysweep.loop.memory_storage import MemoryStorage
from raysweep.loop.observers import Observer
from raysweep.loop.simulation import Fault, Simulation, Step, simulate
from raysweep.spec.sweep import strategies
from tests.loop.sweeps import bowl, config_of, draw, events_of, killed_after, run, sweep_of, table

ENDED = ("finished", "stopped", "failed", "infeasible")


def statuses(state):
    return {trial.id: trial.status for trial in state.trials.values()}


def assert_ended(state, samples):
    assert len(state.trials) == samples
    assert set(statuses(state).values()) <= set(ENDED)


def kinds(state):
    return {trial.id: trial.kinds for trial in state.trials.values() if trial.kinds}


# A driver that dies at any moment.

# Where a suggestion or a decision is dear: every so many events of a sweep are a cut, and how many trials it has.
CUTS = {
    "gp": 30,
    "gp_asha": 30,
    "pb2": 15,
    "cma_es": 7,
    "multi_objective": 7,
    "tpe": 4,
    "tpe_asha": 4,
    "tpe_hyperband": 4,
}
SAMPLES = {"gp": 4, "gp_asha": 4, "pb2": 3}
CELLS = [(name, places) for name in strategies() for places in (1, 3) if places == 1 or name not in SAMPLES]


@pytest.mark.filterwarnings("ignore")  # of Optuna's and PB2's models
@pytest.mark.parametrize(("name", "places"), CELLS)
def test_a_sweep_whose_driver_dies_ends_as_without_that(name, places):
    options = {"places": places, "samples": SAMPLES.get(name, 6)}
    undisturbed = run(name, storage=(storage := MemoryStorage()), **options)
    for events in range(0, len(events_of(storage)), CUTS.get(name, 1)):
        left = killed_after(events, name, **options)
        before = events_of(left)
        resumed = run(name, storage=left, **options)
        assert_ended(resumed, len(undisturbed.trials))
        ended = {event["trial"] for event in before if event["type"] == "complete"}
        assert not ended & {event.get("trial") for event in events_of(left)[len(before) :]}, f"after {events} events"
        if places == 1:  # several trials may report in another order than they did
            assert table(resumed) == table(undisturbed), f"after {events} events"


def diverging(trial, config, iteration, state):
    step = bowl(trial, config, iteration, state)
    return Step({"loss": math.nan}, 1.0, step.state) if (trial, iteration) == ("00002", 4) else step


@pytest.mark.parametrize("name", ["tpe", "tpe_asha"])
def test_a_model_learns_after_a_resume_what_it_learnt_from_a_trial_that_diverged(name):
    undisturbed = run(name, diverging, storage=(storage := MemoryStorage()), samples=8)
    assert undisturbed.trials["00002"].status == "stopped"
    at = next(n for n, event in enumerate(events_of(storage)) if event.get("trial") == "00002" and "stop" in event)
    for events in (at, at + 1, at + 2, at + 3, len(events_of(storage)) - 3):
        left = killed_after(events, name, diverging, samples=8)
        assert str(table(run(name, diverging, storage=left, samples=8))) == str(table(undisturbed))  # nan is no nan


# Rungs whose last event does not reach the scheduler.

FAULTS = {
    "fails for good": Fault(error=RuntimeError("no")),
    "returns": Fault(returns=True),
    "uses up its time": Fault(delay=90.0),
    "is ended when its time is up": Fault(delay=1000.0),
}
every_fault = pytest.mark.parametrize("way", [*FAULTS, "diverges"])
in_step = pytest.mark.parametrize("name", ["hyperband", "successive_halving"])


def disturbed(way, *places):
    """What a sweep is given so that these iterations of trials end as that says."""

    def outcome(trial, config, iteration, state):
        step = bowl(trial, config, iteration, state)
        return Step({"loss": math.nan}, 1.0, step.state) if (trial, iteration) in places else step

    if way == "diverges":
        return {"outcome": outcome}
    return {"faults": dict.fromkeys(places, FAULTS[way]), "trial_timeout": 90.0}


def reported(name, **options):
    """Which trials reported which iterations, in order."""
    run(name, storage=(storage := MemoryStorage()), **options)
    return [(event["trial"], event["iteration"]) for event in events_of(storage) if event["type"] == "result"]


@in_step
@every_fault
@pytest.mark.parametrize("places", [1, 4])
def test_no_trial_waits_for_one_whose_next_result_does_not_come(name, way, places):
    for place in reported(name, places=places, samples=9):
        state = run(name, places=places, samples=9, **disturbed(way, place))
        assert_ended(state, 9)


@in_step
@every_fault
def test_nor_after_a_resume(name, way):
    """In the first rung and in a later one the last event of a trial is that one, and the driver dies anywhere."""
    order = reported(name, places=3, samples=9)
    last = [next(place for place in reversed(order) if place[1] == rung) for rung in (1, 3)]
    options = {"places": 3, "samples": 9, **disturbed(way, *last)}
    undisturbed = run(name, storage=(storage := MemoryStorage()), **options)
    assert statuses(undisturbed)[last[0][0]] in ENDED
    for events in range(1, len(events_of(storage)), 2):
        assert_ended(run(name, storage=killed_after(events, name, **options), **options), 9)


# A metric that not every report has.


def now_and_then(trial, config, iteration, state):
    step = bowl(trial, config, iteration, state)
    return step if iteration % 2 == 0 else Step({"other": 1.0}, 1.0, step.state)


@pytest.mark.parametrize("name", ["asha", "pbt", "hyperband", "successive_halving", "median_stopping", "tpe_asha"])
@pytest.mark.parametrize("factor", [2.0, 3.0])
@pytest.mark.parametrize("places", [1, 3])
def test_a_scheduler_gets_only_results_with_its_metric(name, factor, places):
    sweep = sweep_of(name, samples=8, max_iterations=8)
    knobs = {"reduction_factor": factor} if name not in ("pbt", "median_stopping") else {}
    config, received = config_of(sweep, **knobs), []
    decide = config.scheduler.on_trial_result
    config.scheduler.on_trial_result = lambda *arguments: received.append(arguments[2]) or decide(*arguments)
    state = simulate(config, sweep, now_and_then, places=places)
    assert_ended(state, 8)
    assert state.count("finished", "stopped") == 8
    assert received
    assert all("loss" in result for result in received)


def test_a_trial_that_ends_without_a_report_of_the_metric_has_failed():
    def never(trial, config, iteration, state):
        return Step({"other": 1.0}) if trial == "00001" else bowl(trial, config, iteration, state)

    state = run("asha", never, samples=3)
    assert kinds(state) == {"00001": ["unreported"]}
    assert state.trials["00001"].status == "failed"
    assert "no report of it had `loss`; the last one had other" in state.trials["00001"].failures[0]


def test_a_trial_that_returns_before_a_report_of_the_metric_has_failed():
    state = run("asha", now_and_then, samples=3, faults={("00001", 2): Fault(returns=True)})
    assert kinds(state) == {"00001": ["unreported"]}


# What schedulers may do.


class Never(FIFOScheduler):
    """Lets no trial run."""

    def choose_trial_to_run(self, tune_controller):
        return None


def test_a_sweep_in_which_no_trial_can_start_fails_with_a_message():
    sweep = sweep_of("random_search")
    with pytest.raises(SweepFailed, match="6 trials are left and none can start: Never lets none of the 1 waiting"):
        simulate(tune.TuneConfig(scheduler=Never()), sweep, bowl)


class LetsNobodyOn(FIFOScheduler):
    """Pauses each trial after its first iteration."""

    def on_trial_result(self, tune_controller, trial, result):
        return TrialScheduler.PAUSE

    def choose_trial_to_run(self, tune_controller):
        waiting = [trial for trial in tune_controller.get_trials() if trial.status == "PENDING"]
        return waiting[0] if waiting else None


def test_a_sweep_whose_trials_are_paused_for_ever_fails_with_a_message():
    sweep = sweep_of("random_search", samples=3)
    with pytest.raises(SweepFailed, match="3 trials are left and none can start: LetsNobodyOn lets none of the 3"):
        simulate(tune.TuneConfig(scheduler=LetsNobodyOn()), sweep, bowl, places=2)


class EndsTheOthers(FIFOScheduler):
    """Ends all other trials when one has reported its second iteration."""

    def on_trial_result(self, tune_controller, trial, result):
        if result["training_iteration"] == 2:
            for other in tune_controller.get_live_trials():
                if other is not trial:
                    tune_controller.stop_trial(other)
        return TrialScheduler.CONTINUE


def test_a_scheduler_may_end_any_trial_that_runs():
    sweep = sweep_of("random_search", samples=4)
    state = simulate(tune.TuneConfig(scheduler=EndsTheOthers()), sweep, bowl, places=3)
    assert list(statuses(state).values()) == ["stopped", "stopped", "stopped", "finished"]
    assert [len(trial.results) for trial in state.trials.values()] == [4, 1, 1, 9]


class EndsByCall(FIFOScheduler):
    """Ends a trial that has reported by a call, whatever its answer is."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def on_trial_result(self, tune_controller, trial, result):
        tune_controller.stop_trial(trial)
        return self.answer


class Ends(Observer):
    """Hears which trials have ended."""

    def __init__(self):
        self.ended_trials = []

    def ended(self, trial):
        self.ended_trials.append(trial.id)


@pytest.mark.parametrize("answer", [TrialScheduler.NOOP, TrialScheduler.CONTINUE, TrialScheduler.STOP])
def test_a_scheduler_may_end_the_reporting_trial_by_a_call(answer):
    sweep, ends = sweep_of("random_search", samples=3), Ends()
    state = simulate(tune.TuneConfig(scheduler=EndsByCall(answer)), sweep, bowl, places=2, observer=ends)
    assert [len(trial.results) for trial in state.trials.values()] == [1, 1, 1]
    assert ends.ended_trials == ["00000", "00001", "00002"]


# Failures.


def test_a_trial_that_starts_again_keeps_its_bracket():
    faults = {(f"{n:05d}", 2): Fault(error=RayActorError()) for n in range(8)}
    undisturbed = run("async_hyperband", samples=8, max_iterations=9)
    assert len({len(trial.results) for trial in undisturbed.trials.values()}) > 2
    again = run("async_hyperband", samples=8, max_iterations=9, faults=faults)
    assert statuses(again) == statuses(undisturbed)
    assert [len(t.results) for t in again.trials.values()] == [len(t.results) for t in undisturbed.trials.values()]


@pytest.mark.parametrize(
    ("error", "times", "max_failures", "status"),
    [
        (RayActorError(), 3, 0, "finished"),  # forgiven
        (RayActorError(), 4, 0, "failed"),
        (RayActorError(), 4, 1, "finished"),
        (RuntimeError("no"), 1, 0, "failed"),
        (RuntimeError("no"), 2, 2, "finished"),
        (OutOfMemoryError("no"), 1, 0, "finished"),  # with a larger share
        (OutOfMemoryError("no"), 2, 9, "infeasible"),
    ],
)
def test_a_trial_starts_again_as_often_as_its_failures_allow(error, times, max_failures, status):
    faults = {("00001", 4): Fault(error=error, times=times)}
    state = run("random_search", samples=3, max_failures=max_failures, faults=faults)
    assert statuses(state) == {"00000": "finished", "00001": status, "00002": "finished"}
    assert len(state.trials["00001"].kinds) == times
    assert len(state.trials["00001"].results) == (9 if status == "finished" else 3)


def test_a_trial_that_hangs_is_ended_and_goes_on_from_its_checkpoint():
    storage = MemoryStorage()
    faults = {("00001", 4): Fault(delay=math.inf)}
    state = run("random_search", samples=3, report_timeout=50.0, faults=faults, storage=storage)
    assert kinds(state) == {"00001": ["hang"]}
    assert state.trials["00001"].status == "finished"
    iterations = [e["iteration"] for e in events_of(storage) if e["type"] == "result" and e["trial"] == "00001"]
    assert iterations == list(range(1, 10))
    assert 27 + 50 <= events_of(storage)[-1]["time"] < 27 + 60


def test_a_trial_whose_time_is_up_is_stopped_at_its_report_or_ended_before_it():
    faults = {("00000", 4): Fault(delay=20.0), ("00001", 4): Fault(delay=999.0)}
    state = run("random_search", samples=3, trial_timeout=20.0, faults=faults)
    assert list(statuses(state).values()) == ["stopped", "failed", "finished"]
    assert kinds(state) == {"00001": ["timeout"]}


def test_code_after_the_last_iteration_may_fail_the_trial():
    state = run("random_search", samples=2, faults={("00001", 10): Fault(error=RuntimeError("upload"))})
    assert list(statuses(state).values()) == ["finished", "failed"]
    assert len(state.trials["00001"].results) == 9


def test_code_after_the_last_iteration_is_run_again_from_its_checkpoint():
    storage, faults = MemoryStorage(), {("00001", 10): Fault(error=RuntimeError("upload"), times=2)}
    state = run("random_search", samples=2, max_failures=2, faults=faults, storage=storage)
    assert list(statuses(state).values()) == ["finished", "finished"]
    assert kinds(state) == {"00001": ["exception", "exception"]}
    assert [event["type"] for event in events_of(storage)].count("result") == 18


def test_a_trial_that_saves_nothing_does_not_repeat_iterations_for_the_code_after_them():
    def saves_nothing(trial, config, iteration, state):
        return Step({"loss": config["x"]})

    faults = {("00001", 10): Fault(error=RuntimeError("upload"))}
    state = run("random_search", saves_nothing, samples=2, max_failures=2, faults=faults)
    assert list(statuses(state).values()) == ["finished", "failed"]


def test_a_sweep_whose_first_trials_all_fail_the_same_way_ends():
    def broken(trial, config, iteration, state):
        raise KeyError("lr")

    state = run("random_search", broken, samples=20, places=2)
    assert 3 <= state.count("failed") < 6


# An interruption.


def asks_to_end(trial, config, iteration, state):
    if (trial, iteration) == ("00000", 3):
        os.kill(os.getpid(), signal.SIGTERM)
    step = bowl(trial, config, iteration, state)
    return Step(step.metrics, 1.0 + draw(trial), step.state)


@pytest.mark.parametrize("name", ["random_search", "hyperband", "pbt"])
def test_an_interrupted_sweep_lets_running_trials_report_and_can_be_resumed(name, capsys):
    storage = MemoryStorage()
    state = run(name, asks_to_end, samples=6, places=3, storage=storage)
    assert "asked to end" in capsys.readouterr().out
    assert events_of(storage)[-1]["status"] == "interrupted"
    assert not any(trial.ended for trial in state.trials.values())
    assert state.trials["00000"].last.iteration >= 2
    assert all(trial.kinds == [] for trial in state.trials.values())
    before = events_of(storage)
    again = run(name, samples=6, places=3, storage=storage)
    assert_ended(again, 6)
    done = [(e["trial"], e["iteration"]) for e in before if e["type"] == "result"]
    later = [(e["trial"], e["iteration"]) for e in events_of(storage)[len(before) :] if e["type"] == "result"]
    assert name == "pbt" or not set(done) & set(later), "no iteration is done twice"


def test_an_increased_share_is_requested_for_one_try():
    asked_for = []

    class Watched(Simulation):
        def start(self, run, share=None):
            asked_for.append((run.trial, share and share.cpus))
            super().start(run, share)

    faults = {("00001", 2): Fault(error=OutOfMemoryError("no"))}
    sweep = replace(sweep_of("random_search", samples=2, max_iterations=3), cpus=1.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raysweep.loop.simulation.Simulation", Watched)
        simulate(config_of(sweep), sweep, bowl, faults=faults)
    assert asked_for == [("00000", None), ("00001", None), ("00001", 3.0)]
