"""A GPU that runs out of memory: the trial goes on with twice its share, or is told that it fits on none."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import ray
from ray import tune

import raysweep
from raysweep.loop.failures import Kind
from tests.waiting import until

LEFT = 200  # MiB


def used() -> int:
    """MiB of the first GPU."""
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0])


def rivals(folder: Path) -> Any:
    """Two trials that each want more than half of the memory, at the same moment; who gets it waits for the other."""

    def train(config: dict[str, Any]) -> None:
        import torch

        (folder / f"came-{config['x']}").touch()
        until(lambda: len(list(folder.glob("came-*"))) == 2, "the other one did not come")
        wanted = torch.cuda.get_device_properties(0).total_memory * 6 // 10
        try:
            held = torch.empty(wanted, dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError:
            (folder / "refused").touch()
            raise
        until((folder / "refused").exists, "both had room")
        raysweep.report({"loss": config["x"], "held": held.numel(), "share": share()})

    return train


def share() -> float:
    """Of the GPU, that Ray has assigned to this process: under names of its own where the place was reserved."""
    assigned = ray.get_runtime_context().get_assigned_resources()
    return float(max(amount for name, amount in assigned.items() if name.startswith("GPU")))


def test_memory_that_was_short_is_tried_with_twice_the_share(ray_with_gpu: None, tmp_path: Path, storage: str) -> None:
    before = used()
    found = raysweep.run(
        "random_search", rivals(tmp_path), {"x": tune.uniform(0, 1)}, metric="loss", mode="min", samples=2,
        max_iterations=1, gpus_per_trial=0.5, cpus_per_trial=0.5, storage=storage, name="memory",
    )  # fmt: skip
    trials = found.state.trials.values()
    assert [trial.status for trial in trials] == ["finished", "finished"]
    assert sorted(trial.kinds for trial in trials) == [[], [Kind.GPU_MEMORY]]
    refused = next(trial for trial in trials if trial.kinds)
    assert refused.results[1].metrics["share"] == 1.0
    assert next(trial for trial in trials if not trial.kinds).results[1].metrics["share"] == 0.5
    assert "out of memory" in refused.failures[0]
    until(lambda: used() <= before + LEFT, "the trials' memory of the GPU did not come back")


def test_a_trial_that_no_gpu_has_room_for_is_infeasible(ray_with_gpu: None, storage: str) -> None:
    def train(config: dict[str, Any]) -> None:
        import torch

        part = config["tenths"] * torch.cuda.get_device_properties(0).total_memory // 10
        held = torch.empty(part, dtype=torch.uint8, device="cuda")
        raysweep.report({"loss": 1.0, "held": held.numel()})

    found = raysweep.run(
        "random_search", train, {"tenths": tune.choice([1, 12])}, metric="loss", mode="min",
        points=[{"tenths": 1}, {"tenths": 12}], samples=2, max_iterations=1, gpus_per_trial=1,
        storage=storage, name="too-large",
    )  # fmt: skip
    assert [trial.status for trial in found.state.trials.values()] == ["finished", "infeasible"]
