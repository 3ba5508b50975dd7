"""What a driver does with a journal that it takes up."""

from __future__ import annotations

from pathlib import Path

from raysweep import checkpoint, journal
from raysweep.journal import Journal
from raysweep.record import Recorder
from raysweep.state import SweepState
from raysweep.storage import open_storage


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
