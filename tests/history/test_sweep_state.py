"""The folded journal: one record a trial, whoever wrote the events and however often a driver began anew."""

import math

import pytest

from raysweep.history.checkpoint import Checkpoint
from raysweep.history.sweep_state import ENDED, SweepState
from raysweep.values import is_number


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


def test_counts_follow_a_trial_and_a_repeated_end_counts_once():
    events, state, seen = Events().suggest("0").result("0", 1, loss=1.0), SweepState(), []
    events.add("failure", trial="0", error="killed", kind="lost").result("0", 1, loss=1.0)
    events.result("0", 2, loss=1.0).complete("0", "stopped").complete("0", "stopped")
    for event in events:
        state.apply(event)
        seen.append([state.count(status) for status in ("pending", "running", "stopped")].index(1))
        assert state.count("pending", "running", *ENDED) == len(state.trials)
    assert seen == [0, 1, 0, 1, 1, 2, 2]


def test_the_results_that_have_a_checkpoint_are_at_hand():
    events = Events().suggest("0").result("0", 1, loss=3.0).result("0", 2, False, loss=2.0).result("0", 3, loss=1.0)
    trial = SweepState(events).trials["0"]
    assert trial.saved == [trial.results[1], trial.results[3]]
    events.result("0", 3, False, loss=1.0).result("0", 1, loss=5.0)  # done again, without and with one
    trial = SweepState(events).trials["0"]
    assert [each.iteration for each in trial.saved] == [3, 1]  # that of before is still there, and goes first
    trial.forget_checkpoint(trial.results[1])
    assert ([each.iteration for each in trial.saved], trial.results[1].checkpoint) == ([3], None)


def test_a_trial_that_reports_one_of_its_metrics_now_and_then():
    events = Events().suggest("0").result("0", 1, loss=3.0).result("0", 2, loss=2.0, accuracy=0.5)
    trial = SweepState(events.result("0", 3, loss=1.0)).trials["0"]
    assert trial.last.iteration == trial.last_with(["loss"]).iteration == 3
    assert trial.last_with(["accuracy"]).iteration == trial.last_with(["loss", "accuracy"]).iteration == 2
    assert trial.last_with(["f1"]) is None
    assert (trial.has_reported(["loss", "accuracy"]), trial.has_reported(["loss", "f1"])) == (True, False)


def test_metrics_that_come_in_turn_have_all_been_reported_and_never_together():
    trial = SweepState(Events().suggest("0").result("0", 1, loss=3.0).result("0", 2, accuracy=0.5)).trials["0"]
    assert trial.has_reported(["loss", "accuracy"])
    assert trial.last_with(["loss", "accuracy"]) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, "high", None])
def test_a_trial_that_diverged_has_reported_and_has_no_last_number(value):
    trial = SweepState(Events().suggest("0").result("0", 1, loss=3.0).result("0", 2, loss=value)).trials["0"]
    assert trial.has_reported(["loss"])
    assert trial.last_with(["loss"]) is None


def test_a_trial_without_a_result_has_reported_nothing():
    trial = SweepState(Events().suggest("0")).trials["0"]
    assert (trial.last_with(["loss"]), trial.has_reported(["loss"])) == (None, False)


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
    assert trial.saved == list(trial.results.values())


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
    assert (trial.last.iteration, trial.last.checkpoint, [each.iteration for each in trial.saved]) == (3, None, [1, 2])
    events.add("damaged", trial="a", checkpoint=saved("a", 2)["key"])
    events.add("damaged", trial="a", checkpoint=saved("a", 1)["key"])
    assert SweepState(events).trials["a"].checkpoint is None


def test_what_an_exploit_left_behind_may_be_the_best_for_good():
    events = Events().suggest("0", lr=1).suggest("1", lr=2).result("0", 1, loss=3.0)
    events.result("1", 1, loss=2.5).result("1", 2, loss=0.5).result("1", 3, loss=2.0)
    events.add("exploit", trial="1", donor="0", checkpoint=saved("0", 1), before={"lr": 2}, after={"lr": 1.2})
    events.result("1", 2, loss=0.9).result("1", 3, loss=0.8)
    trial = SweepState(events).trials["1"]
    assert [r.metrics["loss"] for r in trial.results.values()] == [2.5, 0.9, 0.8]
    assert trial.best("loss", "min").metrics == {"loss": 0.5}
    assert trial.best("loss", "min").config == {"lr": 2}
    assert trial.counts(trial.best("loss", "min"))


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


def test_events_are_kept_until_they_are_taken_for_a_replay():
    events = Events().suggest("0", lr=1).result("0", 1, loss=1.0)
    state = SweepState(events)
    assert state.take_events() == events
    state.apply(events.complete("0", "finished")[-1])
    assert (state.take_events(), state.seq) == ([], 3)


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


def test_a_trial_whose_suggestion_is_lost_is_shown_with_what_is_left_of_it():
    events = Events().suggest("0").result("1", 1, loss=1.0).add("exploit", trial="2", donor="1", after={"lr": 2})
    events[-1]["checkpoint"] = saved("1", 1)
    for kind, fields in (("failure", {"error": "?", "kind": "lost"}), ("damaged", {"checkpoint": "?"})):
        events.add(kind, trial=kind, **fields)
    events.add("complete", trial="4", status="finished")
    state = SweepState(events)
    assert {trial.id: (trial.config, trial.status) for trial in state.trials.values()} == {
        "0": ({}, "pending"),
        "1": ({}, "running"),
        "2": ({"lr": 2}, "pending"),
        "failure": ({}, "pending"),
        "damaged": ({}, "pending"),
        "4": ({}, "finished"),
    }
    assert (state.count("pending"), state.count("running"), state.count("finished")) == (4, 1, 1)
