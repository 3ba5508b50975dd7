"""What is journalled, and what is deleted afterwards; and what a driver does with a journal that it takes up."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raysweep.errors import StorageError, SweepFailed
from raysweep.history import checkpoint, journal
from raysweep.history.checkpoint import Checkpoint
from raysweep.history.journal import Event, Journal
from raysweep.history.sweep_state import SweepState
from raysweep.loop.recorder import KEEP_LAST, Recorder
from raysweep.storage import FolderStorage, Storage
from raysweep.trial import session as sessions
from raysweep.trial.run import Run, TrialSpec
from raysweep.trial.session import Report, Session


class Lease:
    """Another driver's, from when a test says so."""

    lost = False

    def check(self) -> None:
        if self.lost:
            raise SweepFailed("another one has taken the sweep over")

    def holds(self) -> bool:
        return not self.lost


class Life:
    """A driver's recorder, on a journal of its own term."""

    def __init__(self, place: Storage, lease: Lease, mode: str = "min") -> None:
        self.place, self.state = place, SweepState(journal.read(place))
        self.journal = Journal(place, len(place.list("journal/")) + 1, self.state.seq)
        self.recorder = Recorder(place, self.journal, self.state, "loss", mode, lease)  # type: ignore[arg-type]

    def suggest(self, *trials: str, **config: Any) -> Life:
        for trial in trials:
            self.recorder.suggested(trial, config or {"lr": 0.5}, {})
        return self

    def report(self, trial: str, iteration: int, loss: Any = 1.0, saves: bool = True, **more: Any) -> Checkpoint | None:
        saved = checkpoint.save(self.place, trial, iteration, random.random()) if saves else None
        report = Report(iteration, {"loss": loss}, saved, more.pop("restored", None), "here")
        self.recorder.reported(trial, report, more.pop("config", self.state.trials[trial].config), **more)
        return saved

    def expire(self, trial: str, *needed: str) -> None:
        self.recorder.expire(self.state.trials[trial], lambda: needed)

    def kept(self, trial: str) -> list[int]:
        """The iterations whose checkpoints the record knows, and the storage has."""
        known = sorted(each.iteration for each in self.state.trials[trial].saved)
        self.recorder.close()
        assert [saved.iteration for saved in checkpoint.verified(self.place, trial)] == known
        return known

    def close(self) -> None:
        self.recorder.close()
        self.journal.close()

    def events(self, *types: str) -> list[Event]:
        """As the journal has them, but for what each event has."""
        events = [event for event in journal.read(self.place) if event["type"] in types]
        return [{k: v for k, v in event.items() if k not in ("seq", "time", "type")} for event in events]


@pytest.fixture
def place(tmp_path: Path) -> Storage:
    return FolderStorage(str(tmp_path))


@pytest.fixture
def lease() -> Lease:
    return Lease()


@pytest.fixture
def begin(place: Storage, lease: Lease) -> Iterator[Callable[..., Life]]:
    """The next life of a driver; the one before it is gone."""
    lives: list[Life] = []

    def life(**options: Any) -> Life:
        if lives:
            lives[-1].close()
        lives.append(Life(place, lease, **options))
        return lives[-1]

    yield life
    lives[-1].close()


def test_a_resumed_trial_does_not_continue_from_an_incomplete_checkpoint(begin: Any, tmp_path: Path) -> None:
    """Nor has it one if it is stopped before it runs again, as a paused one may be."""
    life = begin().suggest("a", "b")
    for trial in ("a", "b"):
        for iteration in (1, 2):
            life.report(trial, iteration)
    life.recorder.completed("b", "finished")
    for record in life.state.trials.values():
        half = tmp_path / record.checkpoint.key / checkpoint.STATE
        half.write_bytes(half.read_bytes()[:5])

    begin().recorder.begin(resumed=True)
    again = begin().state.trials
    assert [record.checkpoint.iteration for record in again.values()] == [1, 2]  # "b" has ended
    assert checkpoint.load(life.place, again["a"].checkpoint) is not None
    assert again["a"].results.keys() == {1, 2}


def test_results_that_were_saved_but_not_journalled_are_adopted(begin: Any, monkeypatch: Any) -> None:
    life = begin().suggest("a", lr=0.5)
    session = Session(TrialSpec(len, life.place, 9), Run("a", {"lr": 0.5}, {"lr": 0.5}))
    monkeypatch.setattr(sessions, "_session", session)

    def train(config: dict[str, Any]) -> None:
        for loss in (3.0, 2.0, 1.0):
            sessions.report({"loss": loss}, state=loss if loss > 1 else None)

    reports = [session.next(train) for _ in range(3)]
    assert session.end(5)
    for _ in range(2):
        begin().recorder.begin(resumed=True)
        again = begin().state.trials["a"]
        assert [result.metrics for result in again.results.values()] == [report.metrics for report in reports[:2]]
        assert checkpoint.load(life.place, again.checkpoint) == 2.0
        adopted = [event["adopted"] for event in begin().events("result")]
        assert adopted == [True, True], "once, and not again by the next driver"


def test_a_result_is_journalled_together_with_the_decision(begin: Any) -> None:
    life = begin().suggest("a")
    saved = life.report("a", 1)
    life.report("a", 2, saves=False, stop=True)
    common = {"trial": "a", "metrics": {"loss": 1.0}, "node": "here"}
    first = {**common, "iteration": 1, "checkpoint": saved.to_dict()}
    assert life.events("result") == [first, {**common, "iteration": 2, "checkpoint": None, "stop": True}]


def test_the_seconds_that_a_checkpoint_took_are_journalled(begin: Any) -> None:
    life = begin().suggest("a")
    for iteration, stalled in ((1, 0.25), (2, 0.0), (3, 0.5000004)):
        saved = checkpoint.save(life.place, "a", iteration, b"x" * iteration) if stalled else None
        life.recorder.reported("a", Report(iteration, {"loss": 1.0}, saved, stalled=stalled), {"lr": 0.5})
    assert [event.get("stalled") for event in life.events("result")] == [0.25, None, 0.5]
    state = begin().state
    sizes = [saved.size for saved in checkpoint.verified(life.place, "a")]
    assert (state.reports, state.saves, state.saved_bytes, state.stalled_s) == (3, 2, sum(sizes), 0.75)


def test_a_suggestion_is_journalled_with_the_samplers_memory(begin: Any) -> None:
    life = begin()
    life.recorder.suggested("a", {"lr": 0.5}, {"generation": 1})
    life.recorder.suggested("b", {"lr": 0.5}, {})
    whole = {"trial": "a", "config": {"lr": 0.5}, "memory": {"generation": 1}}
    assert life.events("suggest") == [whole, {"trial": "b", "config": {"lr": 0.5}}]


def test_a_configuration_is_journalled_where_it_has_changed(begin: Any) -> None:
    life = begin().suggest("a", layers=[1, 2], opt={"lr": 0.5})
    copied = {"layers": [1, 2], "opt": {"lr": 0.5}}
    for iteration, config in enumerate((copied, {**copied, "opt": {"lr": 0.6}}), start=1):
        for _ in range(2):
            life.report("a", iteration, config=config)
    assert [event.get("config") for event in life.events("result")] == [
        None,
        None,
        {"layers": [1, 2], "opt": {"lr": 0.6}},
        None,
    ]


def test_an_exploit_is_journalled_before_its_first_result(begin: Any) -> None:
    life = begin().suggest("a", lr=1).suggest("b", lr=2)
    donor, own = life.report("a", 1), life.report("b", 1)
    life.report("b", 2, restored=own)
    life.report("b", 2, restored=donor, config={"lr": 1.2})
    given = {"trial": "b", "donor": "a", "checkpoint": donor.to_dict()}
    assert life.events("exploit") == [{**given, "before": {"lr": 2}, "after": {"lr": 1.2}}]
    assert [event["type"] for event in journal.read(life.place)][-2:] == ["exploit", "result"]
    assert "config" not in life.events("result")[-1]


def test_a_trial_ends_once(begin: Any) -> None:
    life = begin().suggest("a")
    life.recorder.failed("a", "no such layer", "exception")
    life.recorder.completed("a", "failed")
    life.recorder.completed("a", "stopped")
    assert life.events("failure") == [{"trial": "a", "error": "no such layer", "kind": "exception"}]
    assert life.events("complete") == [{"trial": "a", "status": "failed"}]


def test_a_driver_that_lost_its_lease_writes_nothing(begin: Any, lease: Lease) -> None:
    life = begin().suggest("a")
    before, lease.lost = journal.read(life.place), True
    complete = life.recorder.completed
    for write in (lambda: life.report("a", 1), lambda: life.suggest("b"), lambda: complete("a", "failed")):
        with pytest.raises(SweepFailed, match="taken the sweep over"):
            write()
    assert journal.read(life.place) == before
    assert life.state.trials["a"].last is None


def test_the_best_and_the_last_checkpoints_stay(begin: Any) -> None:
    life = begin().suggest("a")
    for iteration, loss in enumerate((5.0, 1.0, 2.0, 3.0, 4.0, 5.0), start=1):
        life.report("a", iteration, loss)
        life.expire("a")
    assert life.kept("a") == [2, 5, 6]


def test_checkpoints_that_trials_continue_from_stay(begin: Any) -> None:
    life = begin().suggest("a", "b")
    saved = [life.report("a", iteration, loss=1 / iteration) for iteration in range(1, 7)]
    life.report("b", 1)
    life.expire("a", saved[1].key)
    assert life.kept("a") == [2, 5, 6]


def test_a_checkpoint_that_a_trial_continues_from_stays_however_old_it_is(begin: Any) -> None:
    life = begin().suggest("a", "b")
    donor = life.report("a", 9)
    for iteration in range(1, 5):
        life.report("b", iteration)
    life.report("b", 5, saves=False, restored=donor)
    assert life.state.trials["b"].checkpoint == donor
    life.recorder.expire_all()
    assert (life.kept("a"), life.kept("b")) == ([9], [1, 3, 4])


def test_of_two_that_are_as_good_the_earlier_iteration_stays_as_it_is_the_best(begin: Any) -> None:
    life = begin().suggest("a")
    for iteration, loss in ((1, 5.0), (5, 5.0), (6, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)):  # it went back once
        life.report("a", iteration, loss)
    life.expire("a")
    assert life.kept("a") == [2, 3, 4]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("seed", range(10))
def test_the_best_stays_whatever_a_trial_reports_and_repeats(begin: Any, mode: str, seed: int) -> None:
    life, draw, at = begin(mode=mode).suggest("a"), random.Random(seed), 0
    for _ in range(40):
        at = draw.randint(1, at + 1)  # it goes back now and then
        life.report("a", at, draw.choice([1, 2, 3, 3.0, math.nan, "text"]))
        best = life.state.trials["a"].best("loss", mode)
        before = best and best.checkpoint
        life.expire("a")
        assert before == (best and best.checkpoint)


def test_a_checkpoint_stays_until_its_successor_is_safe(begin: Any, monkeypatch: Any) -> None:
    life = begin().suggest("a")
    seqs: list[int] = []
    monkeypatch.setattr(life.journal, "stored", lambda seq: seqs.append(seq))
    for iteration in range(1, 4 + KEEP_LAST):
        life.report("a", iteration, loss=1 / iteration)
        life.expire("a")
    life.recorder.close()
    assert len(checkpoint.verified(life.place, "a")) == 3 + KEEP_LAST
    assert seqs == [4, 5, 6]


def test_a_driver_that_lost_its_lease_deletes_nothing(begin: Any, lease: Lease) -> None:
    life = begin().suggest("a")
    for iteration in range(1, 6):
        life.report("a", iteration)
    lease.lost = True
    life.expire("a")
    life.recorder.close()
    assert len(checkpoint.verified(life.place, "a")) == 5


def test_a_checkpoint_that_cannot_be_deleted_ends_nothing(begin: Any, monkeypatch: Any, caplog: Any) -> None:
    def refuse(*_: Any) -> None:
        raise StorageError("permission denied")

    monkeypatch.setattr(checkpoint, "delete", refuse)
    life = begin().suggest("a")
    for iteration in range(1, 6):
        life.report("a", iteration)
    life.expire("a")
    life.recorder.close()
    assert "an old checkpoint could not be deleted: permission denied" in caplog.text


def test_a_driver_journals_how_it_ended(begin: Any) -> None:
    life = begin()
    life.recorder.begin(resumed=False)
    life.recorder.end("interrupted")
    assert life.events("start", "end") == [{"term": 1, "resumed": False}, {"status": "interrupted"}]


def test_the_state_nearest_to_a_best_result_without_one_is_kept(begin: Callable[..., Life]) -> None:
    life = begin().suggest("a")
    losses = {1: 9.0, 2: 8.0, 3: 7.0, 4: 0.5, 5: 2.0, 6: 3.0, 7: 4.0, 8: 5.0}
    saved = {}
    for iteration, loss in losses.items():
        saved[iteration] = life.report("a", iteration, loss, saves=iteration != 4)
        life.expire("a")
    life.recorder.close()
    kept = [saved[n] for n in (3, 7, 8)]
    assert checkpoint.verified(life.place, "a") == kept
    # What is read again knows nothing of deletions, and finds the same one.
    record = SweepState(journal.read(life.place)).trials["a"]
    best = record.best("loss", "min")
    assert best is not None
    nearest = record.nearest_saved(best)
    assert nearest is not None
    assert (best.iteration, nearest.checkpoint) == (4, saved[3])


def test_the_start_is_journalled_with_the_drivers_settings(begin: Any) -> None:
    begin().recorder.begin(False, settings={"share": {"cpus": 2.0}})
    [started] = begin().events("start")
    assert (started["resumed"], started["share"]) == (False, {"cpus": 2.0})
