"""Who computes on the GPU: trials that asked for a share of it, and nobody else; and what of them a CPU can read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray import tune

import raysweep
from raysweep import kit
from tasks import digits

READ = """
import sys, torch
from raysweep.history import results
assert not torch.cuda.is_available()
state = results.read("on-gpu", sys.argv[1]).load()
print(state["weights"].device, float(state["weights"].sum()))
"""


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_a_task_trains_where_its_share_is(share: float, ray_with_gpu: None, tmp_path: Path, storage: str) -> None:
    def train(config: dict[str, Any], data: Any) -> None:
        import torch

        digits.train(config, data)
        (tmp_path / "bytes").write_text(str(torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0))

    found = raysweep.run(
        "random_search", train, digits.SPACE, metric=digits.METRIC, mode=digits.MODE, data=digits.load_data(None),
        samples=1, max_iterations=2, gpus_per_trial=share, storage=storage, name="placed",
    )  # fmt: skip
    assert (int((tmp_path / "bytes").read_text()) > 0) == (share > 0)
    assert found.load()["model"]["1.weight"].device.type == "cpu"


def test_what_was_saved_on_a_gpu_is_read_without_one(ray_with_gpu: None, storage: str) -> None:
    def train(config: dict[str, Any]) -> None:
        import torch

        raysweep.report({"loss": config["x"]}, state={"weights": torch.ones(5, device="cuda")})

    raysweep.run(
        "random_search", train, {"x": tune.uniform(0, 1)}, metric="loss", mode="min", samples=1, max_iterations=1,
        gpus_per_trial=1, storage=storage, name="on-gpu",
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", READ, storage], capture_output=True, text=True, check=False,
        cwd=kit.HOME, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.stdout.split() == ["cpu", "5.0"], done.stderr


def test_check_says_how_many_fit_on_the_gpu(ray_with_gpu: None, storage: str) -> None:
    words = ["--task", "digits", "--gpus-per-trial", "0.25", "--samples", "4", "--storage", storage, "--dry-run"]
    done = subprocess.run(
        [sys.executable, "jobs/random_search.py", *words], capture_output=True, text=True, check=False, cwd=kit.HOME
    )
    assert done.returncode == 0, done.stderr
    assert "on a GPU" in done.stdout
    assert "4 at a time" in done.stdout
