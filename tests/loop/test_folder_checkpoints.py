"""Checkpoints that are folders, in a sweep: kept and deleted, adopted and repaired as states are; and on a real Ray."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ray import tune

import raysweep
from raysweep.history import checkpoint, journal
from raysweep.history.checkpoint import Checkpoint
from raysweep.history.journal import Journal
from raysweep.history.repair import repair
from raysweep.history.sweep_state import SweepState
from raysweep.loop import adopt_results
from raysweep.loop.recorder import KEEP_LAST, Recorder
from raysweep.storage import FolderStorage, Storage, open_storage
from raysweep.trial.session import Report


@pytest.fixture
def place(tmp_path: Path) -> FolderStorage:
    return FolderStorage(str(tmp_path / "runs"))


class Life:
    """A driver's recorder with one trial, whose iterations are folders."""

    def __init__(self, place: Storage, mine: Path) -> None:
        self.place, self.mine, self.state = place, mine, SweepState(journal.read(place))
        self.journal = Journal(place, len(place.list("journal/")) + 1, self.state.seq)
        self.recorder = Recorder(place, self.journal, self.state, "loss", "min")
        self.mine.mkdir(exist_ok=True)
        self.after: Checkpoint | None = None
        self.closed = False

    def save(self, iteration: int) -> Checkpoint:
        """As the trial does, with its note."""
        (self.mine / "epoch").write_text(str(iteration))
        reports = [{"training_iteration": iteration, "loss": 1.0 / iteration, "time_total_s": 1.0}]
        note: dict[str, Any] = {"after": self.after and self.after.to_dict(), "reports": reports}
        note |= {"config": {"lr": 0.5}, "hostname": "h"}
        self.after = checkpoint.save_folder(self.place, "00000", iteration, self.mine, note, self.after)
        return self.after

    def report(self, iteration: int) -> Checkpoint:
        saved = self.save(iteration)
        self.recorder.reported("00000", Report(iteration, {"loss": 1.0 / iteration}, saved, None, "h"), {"lr": 0.5})
        self.recorder.expire(self.state.trials["00000"])
        return saved

    def close(self) -> None:
        if not self.closed:
            self.recorder.close()
            self.journal.close()
        self.closed = True


@pytest.fixture
def life(place: FolderStorage, tmp_path: Path) -> Any:
    made = Life(place, tmp_path / "mine")
    made.recorder.suggested("00000", {"lr": 0.5}, {})
    yield made
    made.close()


def test_old_folders_are_deleted_with_all_their_files(life: Life) -> None:
    saved = [life.report(iteration) for iteration in range(1, 6)]
    life.close()
    assert checkpoint.verified(life.place, "00000") == saved[-KEEP_LAST:]
    assert {key.split("/")[2] for key in life.place.list("checkpoints")} == {
        each.key.split("/")[2] for each in saved[-KEEP_LAST:]
    }


def test_a_resume_passes_over_a_folder_that_lacks_a_file(life: Life) -> None:
    older, newer = life.report(1), life.report(2)
    life.close()
    life.place.delete(f"{newer.key}/files/epoch")
    again = Life(life.place, life.mine)
    again.recorder.begin(resumed=True)
    assert again.state.trials["00000"].checkpoint == older
    again.close()


def test_a_folder_that_no_driver_journalled_is_adopted(life: Life) -> None:
    life.report(1)
    saved = life.save(2)
    [(_, report, config)] = adopt_results.find(life.place, SweepState(journal.read(life.place)))
    assert (report.iteration, report.checkpoint, config) == (2, saved, {"lr": 0.5})


def test_a_folder_notes_the_configuration_that_the_journal_lost(life: Life) -> None:
    life.report(1)
    life.close()
    for key in life.place.list("journal"):
        lines = life.place.get(key).splitlines(keepends=True)
        life.place.put(key, b"".join(line for line in lines if b'"suggest"' not in line))
    told = repair(life.place, 9, 1)
    assert "trial 00000: the journal has lost its configuration, which is now that of its checkpoints" in told
    assert SweepState(journal.read(life.place)).trials["00000"].config == {"lr": 0.5}


# On a real Ray.


def die_in_the_second_file() -> None:
    """The process that saves a folder is killed when it has sent one file."""
    put_file, files = FolderStorage.put_file, []

    def dies(self: FolderStorage, key: str, source: Any) -> Any:
        files.append(key)
        if len(files) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return put_file(self, key, source)

    FolderStorage.put_file = dies  # type: ignore[method-assign]


def train(config: dict[str, Any]) -> None:
    """Walks a path that each checkpoint has, as a file of a folder; `dies_at` is when its process is killed."""
    with raysweep.resume_folder() as folder:
        path = json.loads((folder / "path").read_text()) if folder else []
    for epoch in raysweep.iterations():
        path.append([epoch, config["x"]])
        if epoch == config.get("dies_at") and not Path(config["died"]).exists():
            Path(config["died"]).touch()
            die_in_the_second_file()
        with tempfile.TemporaryDirectory() as own:
            for number in range(9):
                Path(own, f"shard {number}").write_text(f"{number} of {epoch}")
            Path(own, "path").write_text(json.dumps(path))
            metrics = {"loss": (config["x"] - 1) ** 2 + 1 / epoch, "path": json.dumps(path)}
            raysweep.report(metrics, checkpoint=own)


def test_after_an_exploit_of_pbt_the_folder_is_the_donors(private_ray: None, storage: str) -> None:
    found = raysweep.run(
        "pbt", train, {"x": tune.uniform(0.0, 9.0)}, metric="loss", mode="min", samples=4, max_iterations=6,
        storage=storage, seed=1, knobs={"perturbation_interval": 2},
    )  # fmt: skip
    assert found.state.count("finished") == 4
    events = journal.read(open_storage(found.url))
    exploits = [number for number, event in enumerate(events) if event["type"] == "exploit"]
    assert exploits
    paths = {e["checkpoint"]["key"]: json.loads(e["metrics"]["path"]) for e in events if e["type"] == "result"}
    for number in exploits:
        trial, taken = events[number]["trial"], paths[events[number]["checkpoint"]["key"]]
        following = next(e for e in events[number:] if e["type"] == "result" and e["trial"] == trial)
        assert paths[following["checkpoint"]["key"]][:-1] == taken


def test_a_trial_that_is_killed_while_it_saves_goes_on_from_the_folder_before(
    private_ray: None, storage: str, tmp_path: Path
) -> None:
    space = {"x": tune.uniform(0.0, 9.0), "dies_at": 3, "died": str(tmp_path / "died")}
    found = raysweep.run(
        "random_search", train, space, metric="loss", mode="min", samples=1, max_iterations=4, storage=storage
    )
    (trial,) = found.state.trials.values()
    assert (trial.status, trial.kinds) == ("finished", ["lost"])
    place = open_storage(found.url)
    assert [event["iteration"] for event in journal.read(place) if event["type"] == "result"] == [1, 2, 3, 4]
    kept = checkpoint.verified(place, trial.id)
    assert [each.iteration for each in kept] == [3, 4]
    assert {key.split("/")[2] for key in place.list("checkpoints")} == {each.key.split("/")[2] for each in kept}
    assert [epoch for epoch, _ in json.loads((found.load(folder=tmp_path / "best") / "path").read_text())] == [
        1,
        2,
        3,
        4,
    ]
