"""Predictions come from the best trial's state; if its best iteration saved none, it is said which one they are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from raysweep.cli import cli
from raysweep.history import checkpoint, predict
from raysweep.history.journal import Journal
from raysweep.spec.task import Task
from raysweep.storage import FolderStorage


@pytest.mark.parametrize(("saves_at", "said"), [(2, False), (1, True)])
def test_it_is_said_which_state_predicts(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, saves_at: int, said: bool
) -> None:
    place = FolderStorage(str(tmp_path / "mine"))
    place.put("sweep.json", json.dumps({"name": "mine", "task": "own", "metrics": ["f1"], "modes": ["max"]}).encode())
    log = Journal(place, 1)
    log.append("suggest", trial="00000", config={"lr": 0.5})
    for iteration, value in ((1, 0.5), (2, 0.75), (3, 0.25)):
        saved = checkpoint.save(place, "00000", iteration, iteration).to_dict() if iteration == saves_at else None
        log.append("result", trial="00000", iteration=iteration, metrics={"f1": value}, checkpoint=saved, node="n")
    log.close()

    def probabilities(config: dict[str, Any], state: int, inputs: Any) -> Any:
        return np.eye(4)[[state] * len(inputs)]

    task = Task("own", lambda config: None, {}, "f1", "max", 3, predict=probabilities, input_shape=(1,))
    monkeypatch.setattr(predict.tasks, "load", lambda name: task)
    np.save(tmp_path / "inputs.npy", np.zeros((2, 1)))
    arguments = ["predict", "mine", "--storage", str(tmp_path), "--array", str(tmp_path / "inputs.npy")]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.output.splitlines()[-2:] == [f"class {saves_at}  probability 1.000"] * 2
    message = "trial 00000 was best at iteration 2, which saved no state: the nearest one is of iteration 1"
    assert (message in caplog.text) is said


def test_a_folder_predicts_and_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = FolderStorage(str(tmp_path / "mine"))
    place.put("sweep.json", json.dumps({"name": "mine", "task": "own", "metrics": ["f1"], "modes": ["max"]}).encode())
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "class").write_text("3")
    saved, log = checkpoint.save_folder(place, "00000", 1, tmp_path / "weights"), Journal(place, 1)
    log.append("suggest", trial="00000", config={"lr": 0.5})
    log.append("result", trial="00000", iteration=1, metrics={"f1": 0.5}, checkpoint=saved.to_dict(), node="n")
    log.close()
    seen: list[Path] = []

    def probabilities(config: dict[str, Any], folder: Path, inputs: Any) -> Any:
        seen.append(folder)
        return np.eye(4)[[int((folder / "class").read_text())] * len(inputs)]

    task = Task("own", lambda config: None, {}, "f1", "max", 3, predict=probabilities, input_shape=(1,))
    monkeypatch.setattr(predict.tasks, "load", lambda name: task)
    np.save(tmp_path / "inputs.npy", np.zeros((2, 1)))
    arguments = ["predict", "mine", "--storage", str(tmp_path), "--array", str(tmp_path / "inputs.npy")]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.output.splitlines()[-2:] == ["class 3  probability 1.000"] * 2
    assert not seen[0].exists()
