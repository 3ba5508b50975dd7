"""The folded journal: one record a trial, whoever wrote the events and however often a driver began anew."""

import math

import pytest

from raysweep.checkpoint import Checkpoint
from raysweep.state import SweepState, is_number


def saved(trial, iteration):
    return Checkpoint(f"checkpoints/{trial}/{iteration:06d}-abcd", iteration, 3, "abcd" * 16).to_dict()


class Events(list):
    """Events with their sequence numbers, written the way the recorder writes them."""

    def add(self, type, **fields):
        self.append({"seq": len(self) + 1, "type": type, "time": 0.0, **fields})
        return self

    def suggest(self, trial, **config):
        return self.add("suggest", trial=trial, config=config)

    def result(self, trial, iteration, checkpoint=True, config=None, **metrics):
        point = saved(trial, iteration) if checkpoint else None
        changed = {"config": config} if config else {}
        return self.add(
            "result", trial=trial, iteration=iteration, metrics=metrics, checkpoint=point, node="n1", **changed
        )

    def complete(self, trial, status):
        return self.add("complete", trial=trial, status=status)


def test_a_sweep_of_three_trials():
    events = Events().add("start", writer="w", resumed=False)
    events.suggest("00000", lr=1).suggest("00001", lr=2).suggest("00002", lr=3)
    events.result("00000", 1, loss=2.0).result("00001", 1, checkpoint=False, loss=3.0).result("00000", 2, loss=1.0)
    events.complete("00000", "finished").complete("00001", "stopped").add("end", status="interrupted")
    state = SweepState(events)

    assert list(state.trials) == ["00000", "00001", "00002"]
    assert [trial.status for trial in state.trials.values()] == ["finished", "stopped", "pending"]
    assert [trial.id for trial in state.unfinished] == ["00002"]
    assert state.seq == len(events)
    first, second, third = state.trials.values()
    assert (first.config, first.last.iteration, first.last.metrics, first.last.node) == (
        {"lr": 1},
        2,
        {"loss": 1.0},
        "n1",
    )
    assert first.checkpoint == Checkpoint.from_dict(saved("00000", 2))
    assert (second.checkpoint, second.last.checkpoint) == (None, None)
    assert (third.last, third.results) == (None, {})
    assert [trial.ended for trial in state.trials.values()] == [True, True, False]


def test_counts_are_of_the_statuses_asked_for():
    events = Events()
    for n, status in enumerate(["finished", "finished", "stopped", "failed", None, None]):
        events.suggest(str(n))
        if status:
            events.complete(str(n), status)
    events.result("4", 1, loss=1.0)
    state = SweepState(events)
    assert state.count("finished") == 2
    assert state.count("finished", "stopped", "failed") == 4
    assert [state.count(status) for status in ("running", "pending", "unheard-of")] == [1, 1, 0]


def test_a_result_without_a_checkpoint_keeps_the_one_before():
    state = SweepState(Events().suggest("0").result("0", 1, loss=1.0).result("0", 2, checkpoint=False, loss=1.0))
    assert state.trials["0"].checkpoint.iteration == 1


def test_a_repeated_iteration_overwrites_the_first():
    events = Events().suggest("0").result("0", 1, loss=5.0).result("0", 2, loss=1.0)
    events.add("failure", trial="0", error="killed", kind="lost").result("0", 2, loss=4.0)
    trial = SweepState(events).trials["0"]
    assert [(i, r.metrics["loss"]) for i, r in trial.results.items()] == [(1, 5.0), (2, 4.0)]
    assert trial.best("loss", "min").metrics == {"loss": 4.0}
    assert trial.last.seq == 5


def test_the_last_result_is_the_newest_one_not_the_one_with_the_highest_iteration():
    events = Events().suggest("0").result("0", 1, loss=1.0).result("0", 2, loss=2.0).result("0", 1, loss=3.0)
    assert SweepState(events).trials["0"].last.metrics == {"loss": 3.0}


def test_a_failure_makes_a_trial_wait_and_is_kept():
    events = Events().suggest("0").result("0", 1, loss=1.0).add("failure", trial="0", error="first", kind="lost")
    waiting = SweepState(events)
    assert waiting.trials["0"].status == "pending"
    assert [trial.id for trial in waiting.unfinished] == ["0"]
    events.add("failure", trial="0", error="second", kind="lost").complete("0", "failed")
    trial = SweepState(events).trials["0"]
    assert (trial.status, trial.failures) == ("failed", ["first", "second"])


def test_a_stop_that_was_decided_is_known_until_the_trial_goes_on():
    events = Events().suggest("0").result("0", 1, loss=1.0)
    decided = {"checkpoint": None, "node": "n1", "metrics": {"loss": 1.0}, "stop": True}
    assert not SweepState(events).trials["0"].stop_decided
    events.add("result", trial="0", iteration=2, **decided)
    trial = SweepState(events).trials["0"]
    assert (trial.stop_decided, trial.ended) == (True, False)
    went_on = Events(events).result("0", 3, loss=1.0)
    assert not SweepState(went_on).trials["0"].stop_decided
    failed = Events(events).add("failure", trial="0", error="killed", kind="lost")
    assert not SweepState(failed).trials["0"].stop_decided


def test_a_damaged_checkpoint_is_nobodys_and_the_newest_whole_one_is_gone_on_from():
    events = Events().suggest("a").result("a", 1, loss=2.0).result("a", 2, loss=1.0).result("a", 3, loss=0.5)
    events.add("damaged", trial="a", checkpoint=saved("a", 3)["key"])
    trial = SweepState(events).trials["a"]
    assert trial.checkpoint == trial.own_checkpoint == Checkpoint.from_dict(saved("a", 2))
    assert (trial.last.iteration, trial.last.checkpoint) == (3, None)
    events.add("damaged", trial="a", checkpoint=saved("a", 2)["key"])
    events.add("damaged", trial="a", checkpoint=saved("a", 1)["key"])
    assert SweepState(events).trials["a"].checkpoint is None


def test_an_exploit_takes_over_checkpoint_and_configuration():
    events = Events().suggest("0", lr=1).suggest("1", lr=2)
    events.result("0", 1, loss=1.0).result("1", 1, loss=9.0)
    events.add("exploit", trial="1", donor="0", checkpoint=saved("0", 1), before={"lr": 2}, after={"lr": 1.2})
    trial = SweepState(events).trials["1"]
    assert (trial.donors, trial.config) == (["0"], {"lr": 1.2})
    assert trial.checkpoint == Checkpoint.from_dict(saved("0", 1))
    assert trial.results[1].config == {"lr": 2}  # what it was trained with


def test_a_configuration_that_changed_is_that_of_the_results_after_it():
    events = Events().suggest("0", lr=1).result("0", 1, loss=1.0).result("0", 2, config={"lr": 3}, loss=1.0)
    events.result("0", 3, loss=1.0)
    trial = SweepState(events).trials["0"]
    assert [result.config["lr"] for result in trial.results.values()] == [1, 3, 3]


def test_live_and_read_again_are_the_same():
    events = Events().suggest("0", lr=1).result("0", 1, loss=1.0).complete("0", "finished")
    live = SweepState()
    for event in events:
        live.apply(event)
    again = SweepState(events)
    assert (live.trials, live.seq, live.events) == (again.trials, again.seq, again.events)


def test_memory_is_what_the_sampler_noted():
    events = Events().add("suggest", trial="0", config={}, memory={"cma:generation": 1}).suggest("1")
    assert [trial.memory for trial in SweepState(events).trials.values()] == [{"cma:generation": 1}, {}]


@pytest.mark.parametrize(("mode", "iteration"), [("max", 3), ("min", 2)])
def test_the_best_iteration_is_the_first_of_the_best_and_never_one_that_is_no_number(mode, iteration):
    events = Events().suggest("0")
    for i, value in enumerate([math.nan, 1.0, 7.0, 7.0, 1.0, math.inf, -math.inf, None, "9"], start=1):
        events.result("0", i, score=value)
    assert SweepState(events).trials["0"].best("score", mode).iteration == iteration


def test_there_is_no_best_without_a_number():
    trial = SweepState(Events().suggest("0").result("0", 1, loss=math.nan)).trials["0"]
    assert trial.best("loss", "min") is None
    assert trial.best("other", "min") is None


@pytest.mark.parametrize(("value", "number"), [(1, True), (0.5, True), (math.nan, False), (math.inf, False)])
def test_a_number_is_finite(value, number):
    assert is_number(value) is number


@pytest.mark.parametrize("value", ["1", None, [1.0]])
def test_what_is_no_number(value):
    assert not is_number(value)
