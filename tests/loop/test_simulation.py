"""Trials on a clock of its own: what comes when, what is saved and gone on from, and what can be made to go wrong."""

import math

import pytest
from ray.exceptions import RayActorError

from raysweep.errors import NotFound
from raysweep.history import checkpoint, journal
from raysweep.history.cost import Rate
from raysweep.loop.executor import Failed, Reported, Returned
from raysweep.loop.memory_storage import MemoryJournal, MemoryStorage
from raysweep.loop.observers import Observer
from raysweep.loop.simulation import Fault, Recorded, Simulation, Step, simulate
from raysweep.spec.prices import Prices
from raysweep.spec.sweep import strategies
from raysweep.storage import FolderStorage
from raysweep.trial.actor import NotFinite, Run, Unreported
from tests.loop.sweeps import bowl, config_of, events_of, run, sweep_of, table

LAST = 3


def steady(trial, config, iteration, state):
    """Adds up what the configuration says, second by second."""
    total = (state or 0) + config["step"]
    return Step({"total": total}, config.get("seconds", 1.0), total)


def simulation(outcome=steady, **options):
    return Simulation(outcome, LAST, **{"places": 4, **options})


def begin(simulation, trial, start=None, spent=0.0, **config):
    simulation.start(Run(trial, {"step": 1, **config}, {"step": 1, **config}, start, spent))


def summary(events):
    return [(type(event).__name__, event.trial) for event in events]


def drain(simulation, seconds=1.0):
    """All that happens, with its second; who has reported goes on."""
    happened = []
    for _ in range(100):
        for event in simulation.wait(seconds):
            happened.append((simulation.clock(), type(event).__name__, event.trial))
            if isinstance(event, Reported):
                simulation.step(event.trial)
    return happened


def test_a_trial_reports_each_iteration_and_returns_after_the_last():
    sim = simulation()
    begin(sim, "a")
    assert drain(sim) == [
        (1.0, "Reported", "a"),
        (2.0, "Reported", "a"),
        (3.0, "Reported", "a"),
        (3.0, "Returned", "a"),
    ]


def test_events_come_in_order_of_time_and_then_of_starts():
    sim = simulation()
    begin(sim, "slow", seconds=2.0)
    begin(sim, "first")
    begin(sim, "second")
    assert [(second, trial) for second, _, trial in drain(sim)[:5]] == [
        (1.0, "first"),
        (1.0, "second"),
        (2.0, "slow"),
        (2.0, "first"),
        (2.0, "second"),
    ]


def test_the_clock_moves_to_the_next_event_but_not_beyond_the_timeout():
    sim = simulation()
    begin(sim, "a", seconds=2.5)
    assert [(summary(sim.wait(1.0)), sim.clock()) for _ in range(3)] == [
        ([], 1.0),
        ([], 2.0),
        ([("Reported", "a")], 2.5),
    ]


def test_a_trial_has_no_events_before_its_next_step_or_after_its_stop():
    sim = simulation()
    begin(sim, "a")
    begin(sim, "b")
    assert summary(sim.wait(1.0)) == [("Reported", "a"), ("Reported", "b")]
    assert summary(sim.wait(9.0)) == []
    sim.step("a")
    sim.stop("a")
    sim.stop("b")
    assert summary(sim.wait(9.0)) == []


def test_there_are_no_more_places_than_exist_and_were_requested():
    sim = simulation(places=2)
    for count, free in ((2, True), (0, False), (9, True)):
        sim.request_places(count)
        assert sim.has_place is free
    begin(sim, "a")
    begin(sim, "b")
    assert not sim.has_place
    sim.stop("a")
    assert sim.has_place


def test_a_report_is_the_same_as_a_sessions():
    sim = simulation()
    begin(sim, "a", spent=10.0, seconds=2.0)
    [event] = sim.wait(9.0)
    report = event.report
    assert report.metrics == {"total": 1, "time_this_iter_s": 2.0, "time_total_s": 12.0}
    assert (report.iteration, report.restored) == (1, None)
    assert report.checkpoint.key.startswith("checkpoints/a/000001-")


def test_a_trial_goes_on_from_what_it_or_another_one_saved():
    sim = simulation()
    begin(sim, "donor", step=10)
    [event] = sim.wait(1.0)
    sim.step("donor")
    sim.stop("donor")
    saved = event.report.checkpoint
    begin(sim, "taker", start=saved, step=1)
    first, second = (sim.wait(1.0)[0].report, sim.step("taker") or sim.wait(1.0)[0].report)
    assert (first.iteration, first.metrics["total"], first.restored) == (2, 11, saved)
    assert (second.iteration, second.metrics["total"], second.restored) == (3, 12, None)


def test_what_is_not_saved_is_done_again():
    def outcome(trial, config, iteration, state):
        return Step({"from": state or 0}, state=iteration if iteration == 1 else None)

    sim = simulation(outcome)
    begin(sim, "a")
    reports = [sim.wait(1.0)[0].report]
    sim.step("a")
    reports.append(sim.wait(1.0)[0].report)
    assert [report.checkpoint is None for report in reports] == [False, True]
    sim.stop("a")
    begin(sim, "a", start=reports[0].checkpoint)
    again = sim.wait(1.0)[0].report
    assert (again.iteration, again.metrics["from"]) == (2, 1)


def test_a_state_is_as_it_was_when_it_was_saved():
    def outcome(trial, config, iteration, state):
        state = state or []
        state.append(iteration)
        return Step({"n": len(state)}, state=state)

    sim = simulation(outcome, storage=(storage := MemoryStorage()))
    begin(sim, "a")
    first = sim.wait(1.0)[0].report.checkpoint
    sim.step("a")
    sim.wait(1.0)
    assert checkpoint.load(storage, first) == [1]


def test_a_trial_has_a_configuration_of_its_own():
    def outcome(trial, config, iteration, state):
        return Step({"n": config.pop("step")})

    sim = simulation(outcome)
    begin(sim, "a")
    assert [kind for _, kind, _ in drain(sim)] == ["Reported"] * LAST + ["Returned"]


def only_event(sim, seconds=9.0):
    [event] = sim.wait(seconds)
    return event


def failing(iteration, **fault):
    """What comes of a trial, in the end, with this fault in an iteration."""
    sim = simulation(faults={("a", iteration): Fault(**fault)})
    begin(sim, "a")
    while isinstance(event := only_event(sim), Reported):
        sim.step("a")
    return sim, event


def test_an_exception_fails_the_trial_after_its_seconds():
    error = RuntimeError("no")
    sim, event = failing(2, error=error)
    assert event == Failed("a", error)
    assert sim.clock() == 2.0
    assert sim.has_place


def test_so_does_what_the_outcome_itself_raises():
    def outcome(trial, config, iteration, state):
        raise ValueError("no")

    sim = simulation(outcome)
    begin(sim, "a")
    assert "no" in str(only_event(sim).error)


def test_a_function_may_return_early():
    assert failing(2, returns=True)[1] == Returned("a")


def test_one_that_returns_without_any_report_has_failed():
    assert isinstance(failing(1, returns=True)[1].error, Unreported)
    sim = simulation(lambda *given: None)
    begin(sim, "a")
    assert isinstance(only_event(sim).error, Unreported)


def test_what_comes_after_the_last_iteration_may_fail_too():
    error = RuntimeError("no")
    sim, event = failing(LAST + 1, error=error, delay=4.0)
    assert event == Failed("a", error)
    assert sim.clock() == LAST + 4.0


def test_an_iteration_may_take_longer():
    sim = simulation(faults={("a", 2): Fault(delay=5.0)})
    begin(sim, "a")
    sim.wait(1.0)
    sim.step("a")
    assert only_event(sim).report.metrics == {"total": 2, "time_this_iter_s": 6.0, "time_total_s": 7.0}
    assert sim.clock() == 7.0


def test_a_hanging_trial_has_no_events_until_it_is_killed():
    sim = simulation(faults={("a", 1): Fault(delay=math.inf)})
    begin(sim, "a")
    assert not sim.wait(1e9)
    sim.kill("a")
    assert isinstance(only_event(sim).error, RayActorError)
    assert sim.clock() == 1e9


def test_a_kill_replaces_the_next_event():
    sim = simulation()
    begin(sim, "a")
    sim.kill("a")
    assert isinstance(only_event(sim).error, RayActorError)
    assert not sim.wait(9.0)


def test_a_fault_occurs_as_often_as_it_says():
    sim = simulation(faults={("a", 1): Fault(error=RuntimeError("no"), times=2)})
    met = []
    for _ in range(3):
        begin(sim, "a")
        met.append(type(only_event(sim)))
    assert met == [Failed, Failed, Reported]


@pytest.mark.parametrize(("spent", "ends"), [(0.0, 2.5), (1.0, 1.5), (99.0, 1.0)])
def test_a_process_ends_when_the_trials_time_is_used_up(spent, ends):
    sim = simulation(timeout=2.5)
    begin(sim, "a", spent=spent, seconds=3.0)
    assert isinstance(only_event(sim).error, RayActorError)
    assert sim.clock() == ends


def test_a_metric_that_must_be_finite_fails_its_trial():
    sim = simulation(lambda *given: Step({"loss": math.nan}), finite=("loss",))
    begin(sim, "a")
    assert isinstance(only_event(sim).error, NotFinite)


def test_a_metric_that_cannot_be_reported_fails_its_trial():
    sim = simulation(lambda *given: Step({"loss": [1.0]}))
    begin(sim, "a")
    assert isinstance(only_event(sim).error, TypeError)


def test_nothing_runs_any_more_when_it_is_closed():
    sim = simulation()
    begin(sim, "a")
    sim.close()
    assert not sim.wait(9.0)
    assert sim.waiting_for()


# A whole sweep.


@pytest.mark.parametrize("place", ["memory", "folder"])
def test_a_sweep_is_in_its_storage(place, tmp_path):
    storage = MemoryStorage() if place == "memory" else FolderStorage(str(tmp_path))
    state = run("random_search", storage=storage, places=2, samples=3, max_iterations=4)
    assert [trial.status for trial in state.trials.values()] == ["finished"] * 3
    events = journal.read(storage)
    assert [event["type"] for event in events].count("result") == 12
    assert events[-1]["status"] == "ended"
    for trial in state.trials.values():
        assert checkpoint.load(storage, trial.checkpoint)["height"] < 1.0
    again = run("random_search", storage=storage, places=2, samples=3, max_iterations=4)
    assert table(again) == table(state)


def test_its_events_have_the_time_of_the_simulation():
    storage = MemoryStorage()
    run("random_search", storage=storage, places=2, samples=3, max_iterations=4)
    times = [event["time"] for event in events_of(storage)]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (0.0, 8.0)


def test_more_places_take_less_time():
    def seconds_with(places):
        storage = MemoryStorage()
        run("random_search", storage=storage, places=places, samples=6, max_iterations=4)
        return events_of(storage)[-1]["time"]

    assert [seconds_with(places) for places in (1, 2, 6, 99)] == [24.0, 12.0, 4.0, 4.0]


def test_an_observer_is_notified():
    class Notified(Observer):
        def __init__(self):
            self.notified = []

        def begin(self):
            self.notified.append("begin")

        def reported(self, trial, result):
            self.notified.append((trial.id, result.iteration))

        def ended(self, trial):
            self.notified.append((trial.id, trial.status))

        def close(self):
            self.notified.append("close")

    observer = Notified()
    run("random_search", samples=1, max_iterations=2, observer=observer)
    assert observer.notified == ["begin", ("00000", 1), ("00000", 2), ("00000", "finished"), "close"]


def test_a_requested_concurrency_is_kept():
    storage = MemoryStorage()
    run("random_search", storage=storage, places=99, concurrency=2, samples=6, max_iterations=4)
    assert events_of(storage)[-1]["time"] == 12.0


# What the Gaussian process of PB2 asks of scipy, and how well it fits a handful of points.
quietly = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::sklearn.exceptions.ConvergenceWarning")


@quietly
@pytest.mark.parametrize("name", strategies())
@pytest.mark.parametrize(("samples", "iterations"), [(1, 1), (1, 9), (2, 9), (6, 1)])
def test_every_strategy_bears_a_small_sweep(name, samples, iterations):
    state = run(name, samples=samples, max_iterations=iterations)
    assert state.count("finished", "stopped") == len(state.trials) == (6 if name == "grid" else samples)
    assert iterations == 1 or state.count("finished")


EDGES = [
    *((name, {"reduction_factor": eta}) for name in ("hyperband", "successive_halving") for eta in (2, 2.5, 1e300)),
    *((name, {"reduction_factor": eta}) for name in ("asha", "async_hyperband", "tpe_asha") for eta in (1.1, 1e300)),
    *((name, {"grace_period": 9}) for name in ("asha", "successive_halving", "median_stopping", "tpe_hyperband")),
    *((name, {"brackets": 3}) for name in ("async_hyperband", "tpe_hyperband")),
    *((name, {"quantile_fraction": share}) for name in ("pbt", "pb2") for share in (0, 0.5)),
    *((name, {"perturbation_interval": 9}) for name in ("pbt", "pb2")),
    *(("pbt", {"resample_probability": probability}) for probability in (0, 1)),
    *(("cma_es", {"population": size}) for size in (4, 10_000)),
    ("tpe", {"candidates": 1}),
    ("tpe", {"startup_trials": 10**30}),
    ("median_stopping", {"min_samples": 1}),
]


@quietly
@pytest.mark.parametrize(("name", "knobs"), EDGES)
def test_what_a_knob_may_be_at_most_runs(name, knobs):
    assert run(name, samples=7, knobs=knobs).count("finished", "stopped") == 7


def test_a_time_budget_is_of_the_simulations_time():
    storage = MemoryStorage()
    state = run("random_search", storage=storage, samples=6, max_iterations=4, time_budget=10.0)
    assert state.count("finished") == 2
    assert events_of(storage)[-1]["status"] == "interrupted"


def test_a_cost_budget_ends_a_sweep_in_order_and_counts_nodes_and_trials():
    rate = Rate(Prices("EUR", node_hour=3600.0, cpu_hour=1800.0), nodes=1, places=2, cpus=1.0, gpus=0.0)
    storage = MemoryStorage()
    # One place: each second costs 1 for the node, and 0.5 for the trial.
    state = run("random_search", storage=storage, samples=6, max_iterations=4, cost_budget=15.0, rate=rate)
    assert (state.status, state.exit_code) == ("interrupted", 0), "as its driver, which `raysweep watch` repeats"
    assert (state.count("finished"), len(state.trials["00002"].results)) == (2, 2)
    assert events_of(storage)[-1]["status"] == "interrupted"


def test_two_trials_at_a_time_use_up_a_cost_budget_twice_as_fast():
    rate = Rate(Prices("EUR", cpu_hour=3600.0), nodes=1, places=2, cpus=1.0, gpus=0.0)
    one, two = (
        run("random_search", samples=6, max_iterations=4, cost_budget=8.4, rate=rate, places=places)
        for places in (1, 2)
    )
    assert one.count("finished") == two.count("finished") == 2
    assert max(trial.completed for trial in two.trials.values()) == 4.0


def test_a_recorded_sweep_is_repeated_from_its_table():
    recorded = run("random_search", samples=5)
    assert table(run("random_search", Recorded(recorded), samples=5)) == table(recorded)


def test_another_strategy_finds_the_same_trials_in_the_table():
    recorded = run("random_search", samples=8)
    stopped = run("asha", Recorded(recorded), samples=8, places=3)
    assert stopped.count("stopped") > 3
    for trial in stopped.trials.values():
        whole = recorded.trials[trial.id]
        losses = [result.metrics["loss"] for result in trial.results.values()]
        assert losses == [whole.results[iteration].metrics["loss"] for iteration in trial.results]


def test_a_trial_that_returned_early_does_so_again():
    recorded = run("random_search", faults={("00001", 4): Fault(returns=True)}, samples=3)
    assert table(run("random_search", Recorded(recorded), samples=3)) == table(recorded)


def test_an_iteration_that_was_not_recorded_fails_its_trial_with_a_message():
    recorded = run("asha", samples=6)
    short = next(trial for trial in recorded.trials.values() if trial.status == "stopped")
    outcome = Recorded(recorded)
    with pytest.raises(LookupError, match=f"{short.id} was stopped before iteration 9"):
        outcome(short.id, short.config, 9, None)
    with pytest.raises(LookupError, match="no recorded trial had"):
        outcome(short.id, {"x": 99}, 1, None)


def test_of_trials_with_the_same_configuration_each_has_its_own_results():
    def outcome(trial, config, iteration, state):
        return Step({"loss": float(trial)})

    def same(trial, config, iteration, state):
        return recorded_as(trial, {"x": 0.0}, iteration, state)

    recorded = run("random_search", outcome, samples=3)
    for trial in recorded.trials.values():
        trial.config = {"x": 0.0}
    recorded_as = Recorded(recorded)
    repeated = run("random_search", same, samples=3)
    assert [trial.last.metrics["loss"] for trial in repeated.trials.values()] == [0.0, 1.0, 2.0]


def test_a_strategy_is_taken_as_its_file_makes_it():
    sweep = sweep_of("asha", samples=4)
    assert [trial.ended for trial in simulate(config_of(sweep), sweep, bowl).trials.values()] == [True] * 4


# What it leaves behind in memory.


@pytest.fixture
def memory():
    storage = MemoryStorage()
    for key in ("a/b/one", "a/b/two", "a/c", "d"):
        storage.put(key, key.encode())
    return storage


def test_objects_are_listed_by_their_keys_and_folders(memory):
    assert memory.list() == ["a/b/one", "a/b/two", "a/c", "d"]
    assert memory.list("a/b") == memory.list("a/b/") == ["a/b/one", "a/b/two"]
    assert memory.list("e") == memory.list("d") == []
    assert memory.folders() == ["a"]
    assert memory.child("a").folders() == ["b"]
    assert memory.child("a").list() == ["b/one", "b/two", "c"]
    assert (memory.get("d"), memory.size("a/c")) == (b"d", 3)
    assert (memory.exists("d"), memory.exists("a"), memory.local_path("d")) == (True, False, None)


@pytest.mark.parametrize("key", ["e", "a", "d/e"])
def test_a_missing_object_or_a_folder_raises_not_found(memory, key):
    for read in (memory.get, memory.size):
        with pytest.raises(NotFound):
            read(key)


def test_objects_can_be_made_once_appended_to_and_deleted(memory):
    assert memory.create("e", b"1")
    assert not memory.create("e", b"2")
    memory.append("f", b"1")
    memory.append("f", b"2")
    assert (memory.get("e"), memory.get("f")) == (b"1", b"12")
    for key in ("e", "f", "a", "nothing"):
        memory.delete(key)
    assert memory.list() == ["a/b/one", "a/b/two", "a/c", "d"], "a folder is no object"
    memory.delete_tree("a/b")
    assert memory.list() == ["a/c", "d"]
    memory.probe()


def test_a_journal_in_memory_is_read_like_any_other(memory):
    for term, after in ((1, 0), (2, 2)):
        log = MemoryJournal(memory, term, after, clock=lambda: 1.5)
        for number in (1, 2):
            assert log.append("end", status=number)["seq"] == after + number
        assert log.stored(log.seq)
        log.close()
    assert [(event["seq"], event["time"]) for event in journal.read(memory)] == [(n, 1.5) for n in (1, 2, 3, 4)]
