"""What one NVIDIA GPU can show: `make test-gpu` on any machine that has one. Elsewhere all is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu import card

NONE = "no GPU here"
FASHION = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist


def pytest_report_header() -> str:
    return f"GPU: {card() or NONE}"


@pytest.fixture(scope="session", autouse=True)
def gpu() -> str:
    """Name, memory and driver of the GPU."""
    if (found := card()) is None:
        pytest.skip(NONE)
    return found


@pytest.fixture(scope="session")
def ray_with_gpu(gpu: str, private_ray: None) -> None:
    """The private Ray of a job, which has found the GPU."""
    import ray

    assert ray.cluster_resources()["GPU"] >= 1


@pytest.fixture
def fashion_mnist() -> Path:
    """The folder of Fashion-MNIST's files."""
    if not FASHION.exists():
        pytest.skip("no Fashion-MNIST here: Debian's package dataset-fashion-mnist")
    return FASHION
