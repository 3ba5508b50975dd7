"""Saved results missing from the journal are adopted if they form a chain that begins where the journal ends."""

from __future__ import annotations

from typing import Any

import pytest

from raysweep.history import checkpoint
from raysweep.history.checkpoint import Checkpoint
from raysweep.history.journal import Event
from raysweep.history.sweep_state import SweepState
from raysweep.loop import adopt_results
from raysweep.storage import FolderStorage, Storage
from raysweep.trial.session import Report


class Sweep:
    """Trials save what they do; the journal is cut where the driver died."""

    def __init__(self, place: Storage) -> None:
        self.place = place
        self.events: list[Event] = []
        self.at: dict[str, Checkpoint | None] = {}

    def write(self, type: str, trial: str, **fields: Any) -> None:
        self.events.append({"seq": len(self.events) + 1, "type": type, "trial": trial, **fields})

    def suggest(self, *trials: str) -> None:
        for trial in trials:
            self.write("suggest", trial, config={"lr": 1})
            self.at[trial] = None

    def save(self, trial: str, *iterations: int, lr: float = 1) -> Checkpoint:
        """A checkpoint of the last of these, with the reports of all; it follows the trial's newest."""
        after = self.at[trial]
        reports = [{"training_iteration": n, "loss": 1 / n, "time_total_s": float(n)} for n in iterations]
        note = {"after": after and after.to_dict(), "reports": reports, "config": {"lr": lr}, "hostname": "h"}
        saved = checkpoint.save(self.place, trial, iterations[-1], {"of": iterations, "lr": lr}, note)
        self.at[trial] = saved
        return saved

    def result(self, trial: str, iteration: int, saved: Checkpoint | None = None, **more: Any) -> None:
        kept = saved and saved.to_dict()
        self.write("result", trial, iteration=iteration, metrics={}, checkpoint=kept, node="", **more)

    def step(self, trial: str, iteration: int) -> Checkpoint:
        """One that the journal has."""
        saved = self.save(trial, iteration)
        self.result(trial, iteration, saved)
        return saved

    def exploit(self, trial: str, donor: Checkpoint) -> None:
        self.write("exploit", trial, donor=donor.key.split("/")[1], checkpoint=donor.to_dict(), after={"lr": 2})

    def missing(self) -> list[tuple[str, int, bool]]:
        """Trial, iteration, and whether it has a checkpoint."""
        results = adopt_results.find(self.place, SweepState(self.events))
        return [(record.id, report.iteration, report.checkpoint is not None) for record, report, _ in results]


@pytest.fixture
def sweep(tmp_path: Any) -> Sweep:
    made = Sweep(FolderStorage(str(tmp_path)))
    made.suggest("a", "b")
    return made


def test_results_in_the_journal_are_not_adopted(sweep: Sweep) -> None:
    for iteration in (1, 2):
        sweep.step("a", iteration)
    assert sweep.missing() == []


def test_results_saved_after_the_end_of_the_journal_are_adopted(sweep: Sweep) -> None:
    sweep.step("a", 1)
    second, third = sweep.save("a", 2), sweep.save("a", 3)
    [(record, first, config), (_, last, _)] = adopt_results.find(sweep.place, SweepState(sweep.events))
    assert (record.id, config) == ("a", {"lr": 1})
    assert first == Report(2, {"loss": 0.5, "time_total_s": 2.0}, second, node="h")
    assert last.checkpoint == third


def test_all_results_of_a_trial_without_any_in_the_journal_are_adopted(sweep: Sweep) -> None:
    sweep.save("b", 1)
    assert sweep.missing() == [("b", 1, True)]


def test_reports_between_two_checkpoints_are_adopted_unless_the_journal_has_them(sweep: Sweep) -> None:
    sweep.step("a", 1)
    sweep.result("a", 2)
    sweep.save("a", 2, 3, 4)
    assert sweep.missing() == [("a", 3, False), ("a", 4, True)]


def test_a_gap_ends_the_chain(sweep: Sweep) -> None:
    sweep.step("a", 1)
    sweep.save("a", 3)
    sweep.save("a", 4)
    assert sweep.missing() == []


def test_an_incomplete_checkpoint_ends_the_chain(sweep: Sweep) -> None:
    sweep.step("a", 1)
    half = sweep.save("a", 2)
    sweep.save("a", 3)
    state = f"{half.key}/{checkpoint.STATE}"
    sweep.place.put(state, sweep.place.get(state)[:5])
    assert sweep.missing() == []


def test_results_after_a_damaged_journalled_checkpoint_are_not_adopted(sweep: Sweep) -> None:
    sweep.step("a", 1)
    damaged = sweep.step("a", 2)
    sweep.save("a", 3)
    sweep.write("damaged", "a", checkpoint=damaged.key)
    assert sweep.missing() == []


def test_results_of_a_trial_that_failed_since_or_has_ended_are_not_adopted(sweep: Sweep) -> None:
    sweep.step("a", 1)
    sweep.save("a", 2)
    sweep.write("failure", "a", error="nan", kind="exception")
    sweep.step("b", 1)
    sweep.save("b", 2)
    sweep.write("complete", "b", status="stopped")
    assert sweep.missing() == []


def test_a_checkpoint_without_a_note_is_ignored(sweep: Sweep) -> None:
    sweep.step("a", 1)
    checkpoint.save(sweep.place, "a", 2, "of an older raysweep, or with nan")
    assert sweep.missing() == []


def test_of_two_attempts_at_the_same_iteration_only_one_is_adopted(sweep: Sweep) -> None:
    before = sweep.step("a", 1)
    sweep.save("a", 2)
    sweep.at["a"] = before
    sweep.save("a", 2, lr=7)
    assert sweep.missing() == [("a", 2, True)]


def test_an_exploit_that_was_begun_is_adopted_after_the_donors_results(sweep: Sweep) -> None:
    sweep.step("a", 1)
    sweep.step("b", 1)
    donor = sweep.save("b", 2)
    sweep.save("a", 2)
    sweep.at["a"] = donor
    sweep.save("a", 3, lr=2)
    sweep.save("a", 4, lr=2)
    results = adopt_results.find(sweep.place, SweepState(sweep.events))
    assert [(record.id, report.iteration) for record, report, _ in results] == [("a", 2), ("b", 2), ("a", 3), ("a", 4)]
    assert [report.restored for _, report, _ in results] == [None, None, donor, None]
    assert [config["lr"] for _, _, config in results] == [1, 1, 2, 2]


def test_an_exploit_that_set_a_trial_back_is_adopted_after_its_earlier_results(sweep: Sweep) -> None:
    sweep.step("a", 1)
    donor = sweep.step("b", 1)
    for iteration in (2, 3, 4):
        sweep.save("a", iteration)
    sweep.at["a"] = donor
    sweep.save("a", 2, lr=2)
    assert [iteration for _, iteration, _ in sweep.missing()] == [2, 3, 4, 2]


def test_the_chain_continues_from_an_exploit_in_the_journal_without_adopting_it_again(sweep: Sweep) -> None:
    donor = sweep.step("b", 5)
    sweep.step("a", 1)
    sweep.at["a"] = donor
    stray = sweep.save("a", 6, lr=3)  # by a worker that died; the next one did otherwise
    sweep.exploit("a", donor)
    assert sweep.missing() == [("a", 6, True)]  # cut between an exploit and its first result
    sweep.at["a"] = donor
    sweep.result("a", 6, sweep.save("a", 6, lr=2), config={"lr": 2})
    assert stray.key != sweep.at["a"].key  # type: ignore[union-attr]
    assert sweep.missing() == []
    sweep.save("a", 7, lr=2)
    assert sweep.missing() == [("a", 7, True)]


def test_results_of_several_trials_are_adopted_in_step(sweep: Sweep) -> None:
    """A synchronous scheduler let none of them go on before all had come so far."""
    for trial in ("b", "a"):
        sweep.step(trial, 1)
    for trial in ("b", "a"):
        for iteration in (2, 3):
            sweep.save(trial, iteration)
    assert [iteration for _, iteration, _ in sweep.missing()] == [2, 2, 3, 3]


def test_a_first_result_with_another_configuration_is_of_another_life(sweep: Sweep) -> None:
    sweep.save("a", 1, lr=7)
    sweep.save("a", 2, lr=7)
    sweep.save("b", 1)
    assert sweep.missing() == [("b", 1, True)]


@pytest.mark.parametrize(
    "note",
    [
        "text",
        ["a", "list"],
        {"after": None},
        {"after": "x", "reports": [], "config": {"lr": 1}, "hostname": "h"},
        {"after": None, "reports": None, "config": {"lr": 1}, "hostname": "h"},
        {"after": None, "reports": [], "config": [1], "hostname": "h"},
    ],
)
def test_a_note_that_no_trial_writes_is_ignored(note: Any, sweep: Sweep) -> None:
    checkpoint.save(sweep.place, "a", 1, "state", note)
    sweep.place.put("checkpoints/a/.DS_Store", b"\0")
    sweep.place.put("checkpoints/a/Thumbs.db/complete.json", b"\0")
    sweep.save("b", 1)
    assert sweep.missing() == [("b", 1, True)]


@pytest.mark.parametrize("optimised", [True, False])
def test_the_iteration_is_adopted_as_a_metric_if_it_is_optimised(sweep: Sweep, optimised: bool) -> None:
    reports = [{"training_iteration": 1, "loss": 0.5}]
    note = {"after": None, "reports": reports, "config": {"lr": 1}, "hostname": "h", "optimised": ["loss"]}
    checkpoint.save(sweep.place, "a", 1, {}, note | ({"optimised": ["training_iteration"]} if optimised else {}))
    [(_, report, _)] = adopt_results.find(sweep.place, SweepState(sweep.events))
    assert report.metrics == {"loss": 0.5, **({"training_iteration": 1} if optimised else {})}
