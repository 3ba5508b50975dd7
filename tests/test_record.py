"""What a driver does with a journal that it takes up."""

from __future__ import annotations

from pathlib import Path

from raysweep import checkpoint, journal
from raysweep.journal import Journal
from raysweep.record import Recorder
from raysweep.state import SweepState
from raysweep.storage import open_storage
from raysweep.trial import Session


def test_a_trial_that_is_taken_up_does_not_go_on_from_half_a_checkpoint(tmp_path: Path) -> None:
    """Nor has it one if it is stopped before it runs again, as a paused one may be."""
    place = open_storage(str(tmp_path))
    log = Journal(place, 1)
    for trial in ("a", "b"):
        log.append("suggest", trial=trial, config={})
        for iteration in (1, 2):
            saved = checkpoint.save(place, trial, iteration, {"weights": iteration}).to_dict()
            log.append("result", trial=trial, iteration=iteration, metrics={}, checkpoint=saved, node="")
    log.append("complete", trial="b", status="finished")
    log.close()
    state = SweepState(journal.read(place))
    for trial in state.trials.values():
        half = tmp_path / trial.checkpoint.key / checkpoint.STATE
        half.write_bytes(half.read_bytes()[:5])

    log = Journal(place, 2, state.seq)
    recorder = Recorder(place, log, state, "loss", "min")
    recorder.begin(resumed=True)
    recorder.close()
    log.close()
    again = SweepState(journal.read(place))
    assert [record.checkpoint.iteration for record in again.trials.values()] == [1, 2]  # "b" has ended
    assert checkpoint.load(place, again.trials["a"].checkpoint) == {"weights": 1}
    assert again.trials["a"].results.keys() == {1, 2}


def test_what_a_trial_saved_and_no_driver_heard_of_is_taken_up(tmp_path: Path) -> None:
    place = open_storage(str(tmp_path))
    log = Journal(place, 1)
    log.append("suggest", trial="a", config={"lr": 0.5})
    log.close()
    session = Session("a", place, 9, config={"lr": 0.5})
    for loss in (3.0, 2.0):
        session._go.release()
        session.report({"loss": loss}, state=loss)

    for term in (2, 3):
        state = SweepState(journal.read(place))
        log = Journal(place, term, state.seq)
        recorder = Recorder(place, log, state, "loss", "min")
        recorder.begin(resumed=True)
        recorder.close()
        log.close()
        again = SweepState(journal.read(place)).trials["a"]
        assert {n: result.metrics["loss"] for n, result in again.results.items()} == {1: 3.0, 2: 2.0}
        assert all(
            result.metrics["time_total_s"] >= result.metrics["time_this_iter_s"] for result in again.results.values()
        )
        assert checkpoint.load(place, again.checkpoint) == 2.0
        adopted = [event["adopted"] for event in journal.read(place) if event["type"] == "result"]
        assert adopted == [True, True], "once, and not again by the next driver"
