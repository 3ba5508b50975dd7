"""Torch, CUDA, driver and card belong together; in the project's environment, and in an image, by the lock."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from docker import smoke
from raysweep import kit

LOCK = kit.HOME / "uv.lock"


def test_torch_has_kernels_for_the_card(gpu: str) -> None:
    major, minor = torch.cuda.get_device_capability()
    print(f"{gpu}: sm_{major}{minor}; torch {torch.__version__} has {' '.join(torch.cuda.get_arch_list())}")
    capable = [name.removeprefix("sm_") for name in torch.cuda.get_arch_list() if name.startswith("sm_")]
    assert any(int(name[:-1]) == major and int(name[-1]) <= minor for name in capable if name.isdigit())
    assert torch.ones(1000, device="cuda").sum().item() == 1000


def test_versions_are_those_of_the_lock() -> None:
    if Path(sys.prefix) != kit.HOME / ".venv" and sys.prefix != sys.base_prefix:
        pytest.skip(f"{sys.prefix} is not the project's environment: torch {torch.__version__}")
    for check in (smoke.check_packages, smoke.check_cuda):
        print(check(LOCK))
