"""docker/slim.py on folders that stand for site-packages: no engine is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ray_project import ROOT

SLIM = ROOT / "docker" / "slim.py"
sys.path.insert(0, str(SLIM.parent))
import slim  # noqa: E402

PATTERNS = [pattern for patterns in slim.UNREACHABLE.values() for pattern in patterns]


def run(action: str, packages: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SLIM), action, str(packages)], capture_output=True, text=True)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A file for each pattern, and one that stays."""
    for pattern in (*PATTERNS, *slim.STRIPPED, "torch/nn.py"):
        path = tmp_path / pattern.replace("**", "numpy").replace("*", "x")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_it_deletes_what_is_named_and_prints_what_is_to_be_stripped(packages: Path) -> None:
    assert run("check", packages).returncode == 1
    done = run("remove", packages)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(slim.STRIPPED)
    assert all(Path(line).exists() for line in done.stdout.splitlines())
    assert (packages / "torch" / "nn.py").exists()
    assert run("check", packages).returncode == 0


@pytest.mark.parametrize("pattern", [*PATTERNS, *slim.STRIPPED])
def test_a_pattern_that_finds_nothing_fails_the_build(packages: Path, pattern: str) -> None:
    (packages / pattern.replace("**", "numpy").replace("*", "x")).unlink()
    done = run("remove", packages)
    assert done.returncode == 1
    assert pattern in done.stderr


def test_what_is_back_is_named(packages: Path) -> None:
    run("remove", packages)
    (packages / "ray" / "jars").mkdir()
    done = run("check", packages)
    assert (done.returncode, done.stderr) == (1, f"{packages}/ray/jars\n")
