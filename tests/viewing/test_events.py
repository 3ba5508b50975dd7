"""TensorBoard's files and the study, made from a journal as it grows, read back by the programs' own libraries."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from raysweep.history import results
from raysweep.loop import tensorboard
from raysweep.viewing.events import EventFiles, StudyFile
from raysweep.viewing.followed import Followed
from tests.viewing.growing import Growing, complete, result, start, suggest
from tests.waiting import until

CONFIG = {"lr": 0.1, "momentum": 0.5, "width": 9, "activation": "relu"}


@pytest.fixture
def growing(tmp_path: Path) -> Growing:
    sweep = Growing(tmp_path / "runs")
    sweep.append(start(), suggest(0, **CONFIG), result(0, 1, 0.5), suggest(1, **CONFIG), result(1, 1, 0.25))
    sweep.append(result(0, 2, 0.75), complete(0))
    return sweep


def scalars(folder: Path, trial: str) -> list[tuple[int, float, float]]:
    """Step, value and time of a trial's accuracy."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    if not (folder / "tensorboard" / trial).exists():
        return []
    found = EventAccumulator(str(folder / "tensorboard" / trial)).Reload()
    if "accuracy" not in found.Tags()["scalars"] + found.Tags()["tensors"]:
        return []
    if "accuracy" in found.Tags()["scalars"]:
        return [(each.step, each.value, each.wall_time) for each in found.Scalars("accuracy")]
    return [(e.step, make_ndarray(e.tensor_proto).item(), e.wall_time) for e in found.Tensors("accuracy")]


def test_the_files_of_tensorboard_follow_the_journal(
    growing: Growing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "FLUSH_SECONDS", 0.0)
    files = EventFiles(tmp_path)
    followed = Followed("mine", growing.storage, files)
    files.write()
    until(lambda: len(scalars(tmp_path, "00001")) == 1)  # a trial that still runs
    assert scalars(tmp_path, "00000") == [(1, 0.5, 1003.0), (2, 0.75, 1006.0)]
    growing.append(result(1, 2, 0.125))
    followed.update()
    files.write()
    until(lambda: scalars(tmp_path, "00001") == [(1, 0.25, 1005.0), (2, 0.125, 1008.0)])
    growing.append(start(term=2), result(1, 3, 0.5), complete(1), term=2)  # all is told anew
    followed.update()
    files.close()
    assert [step for step, _, _ in scalars(tmp_path, "00001")] == [1, 2, 3]
    assert [step for step, _, _ in scalars(tmp_path, "00000")] == [1, 2]


def test_the_study_grows_with_the_trials_that_end(growing: Growing, tmp_path: Path) -> None:
    followed, path = Followed("mine", growing.storage), tmp_path / "optuna.log"
    study = StudyFile(path)
    study.write(followed.sweep)
    first = path.read_bytes()

    def opened() -> list[tuple[str, float | None, dict]]:
        storage = JournalStorage(JournalFileBackend(str(path)))
        trials = optuna.load_study(study_name="mine", storage=storage).trials
        return [(trial.user_attrs["trial"], trial.value, trial.params) for trial in trials]

    assert opened() == [("00000", 0.75, CONFIG)]
    study.write(followed.sweep)
    assert path.read_bytes() == first
    growing.append(result(1, 2, 0.5), complete(1))
    followed.update()
    study.write(followed.sweep)
    assert path.read_bytes().startswith(first)
    assert opened() == [("00000", 0.75, CONFIG), ("00001", 0.5, CONFIG)]


def test_the_study_of_an_ended_sweep_is_that_of_its_optuna_log(growing: Growing, tmp_path: Path) -> None:
    from raysweep.history.optuna_export import StudyLog
    from raysweep.spec import described

    growing.append(complete(1, "stopped"))
    found = results.read("mine", growing.storage)
    StudyFile(tmp_path / "a.log").write(Followed("mine", growing.storage).sweep)
    whole = StudyLog(found, described.domains(found.spec["space"])).grow(found)
    assert len((tmp_path / "a.log").read_bytes().splitlines()) == len(whole.splitlines())
