"""What several tests share. Nothing of a developer's own Ray or AWS settings reaches a test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before Ray is imported: it reads its environment then.
for _name in [name for name in os.environ if name.startswith(("RAY_", "RAYSWEEP_", "AWS_", "TUNE_"))]:
    del os.environ[_name]

pytest_plugins = ["tests.s3", "tests.ray_cluster", "tests.flaky"]


@pytest.fixture(scope="session")
def private_ray() -> Iterator[None]:
    """The private Ray that a job starts when there is no cluster; all tests of this run share one."""
    import ray

    from raysweep.driver import local_ray

    local_ray.start()
    yield
    ray.shutdown()


@pytest.fixture
def storage(tmp_path: Path) -> str:
    """A folder for sweeps."""
    return str(tmp_path / "runs")
