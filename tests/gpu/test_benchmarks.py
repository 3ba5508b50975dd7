"""The benchmarks that need a GPU run to their end with equal accuracies; their figures are shown, none is tested."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import MPS
from raysweep import kit


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=kit.HOME
    )
    with capsys.disabled():
        print(f"\n$ python {' '.join(words)}\n{done.stdout}")
    assert done.returncode == 0
    return done.stdout


def test_trials_that_share_a_gpu_make_more_epochs(fashion_mnist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = shown(capsys, "benchmarks/gpu.py", "--data", str(fashion_mnist), "--rounds", "2")
    assert [line.split("|")[1].strip() for line in output.splitlines() if line.startswith("| ")][1:] == [
        "1", "2", "5", "10", "20",
    ]  # fmt: skip


def test_the_same_with_the_multi_process_service(fashion_mnist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which(MPS) is None:
        pytest.skip(f"no MPS here: {MPS} is not installed")
    counts = ["--trials", "1", "--trials", "5", "--trials", "20", "--rounds", "1"]
    output = shown(capsys, "benchmarks/gpu.py", "--data", str(fashion_mnist), *counts, "--mps")
    clients = next(line for line in output.splitlines() if line.startswith("MPS: "))
    assert int(clients.split()[1]) >= 1 + 5 + 20


def test_the_tutorial_on_a_gpu(fashion_mnist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", str(fashion_mnist), "--gpus-per-trial", "0.25", "--pairs", "2"]
    assert "plain / ours, wall time" in shown(capsys, "benchmarks/tutorial.py", *words)
