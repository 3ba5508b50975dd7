"""Fractions of a GPU: so many trials at the same time, all on the device that Ray gave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ray import tune

import raysweep
from tests.waiting import until

AT_ONCE = 4
TRIALS = 8


def meeting(folder: Path) -> Any:
    """A task whose iterations note when they were at work and where; the first ones wait until AT_ONCE have come."""

    def train(config: dict[str, Any]) -> None:
        import os
        import time

        import torch

        held = torch.ones(2**28, device="cuda")  # one GiB
        for iteration in raysweep.iterations():
            began = time.time()
            (folder / f"here-{os.getpid()}").touch()
            until(lambda: len(list(folder.glob("here-*"))) >= AT_ONCE, f"there were never {AT_ONCE} at once")
            assert held.sum().item() == 2**28
            seen = {"device": torch.cuda.get_device_name(), "visible": os.environ["CUDA_VISIBLE_DEVICES"]}
            note = {"from": began, "to": time.time(), "devices": torch.cuda.device_count(), **seen}
            (folder / f"at-{os.getpid()}-{iteration}-{began}.json").write_text(json.dumps(note))
            raysweep.report({"loss": (config["x"] - 1) ** 2 + 1 / iteration}, state=iteration)

    return train


def most_at_once(notes: list[dict[str, Any]]) -> int:
    changes = sorted(change for note in notes for change in ((note["from"], 1), (note["to"], -1)))
    here = most = 0
    for _, change in changes:
        here += change
        most = max(most, here)
    return most


@pytest.mark.parametrize("strategy", ["random_search", "asha", "hyperband", "pbt"])
def test_trials_share_a_gpu(strategy: str, ray_with_gpu: None, gpu: str, tmp_path: Path, storage: str) -> None:
    found = raysweep.run(
        strategy, meeting(tmp_path), {"x": tune.uniform(0, 2)}, metric="loss", mode="min", mutable=("x",),
        samples=TRIALS, max_iterations=4, gpus_per_trial=1 / AT_ONCE, cpus_per_trial=0.25, storage=storage, name="s",
    )  # fmt: skip
    notes = [json.loads(path.read_text()) for path in tmp_path.glob("at-*.json")]
    assert {trial.status for trial in found.state.trials.values()} <= {"finished", "stopped"}
    assert not any(trial.failures for trial in found.state.trials.values())
    assert len(found.state.trials) == TRIALS
    assert most_at_once(notes) == AT_ONCE
    assert {note["devices"] for note in notes} == {1}
    assert len({note["visible"] for note in notes}) == 1
    assert all(note["device"] in gpu for note in notes)
