"""The page `From Ray Tune to raysweep`: its code is run, and its function is the same before and after."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from raysweep.history.results import read
from tests.ray_project import ROOT, make_project

PAGE = (ROOT / "docs" / "from-ray-tune.md").read_text()
BEFORE, AFTER, NOTEBOOK = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMAND = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)[0].strip()


def test_only_the_tuner_is_replaced() -> None:
    function, rest = AFTER.split("\n\n\nSPACE = ")
    assert BEFORE.startswith(function)
    assert len(rest.splitlines()) == 2


@pytest.mark.timeout(600)
def test_its_code_runs(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    task = project.folder / "my_training.py"

    task.write_text(BEFORE)
    assert "lr" in run(project.folder, project.env, str(task))

    task.write_text(AFTER)
    _, *arguments = shlex.split(COMMAND)
    assert "4 trials" in run(project.folder, project.env, *arguments)

    (project.folder / "notebook.py").write_text(NOTEBOOK)
    assert "'lr'" in run(project.folder, project.env, "notebook.py")
    trials = read("from-tune", str(project.folder / "runs")).state.trials.values()
    assert [trial.last.iteration for trial in trials if trial.last] == [10] * 4


def run(folder: Path, env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env | {"PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout
