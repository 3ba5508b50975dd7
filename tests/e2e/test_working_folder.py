"""A trial finds the files of its project by their relative paths, on a private Ray as in a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysweep.history.results import read
from tests.e2e.sweeps import submit
from tests.ray_project import Project

TASK = """
from pathlib import Path

import raysweep
from ray import tune

SPACE = {"x": tune.uniform(0.0, 1.0)}
METRIC, MODE, MAX_ITERATIONS = "value", "min", 1


def train(config):
    raysweep.report({"value": float(Path("numbers/values.txt").read_text()), "folder": str(Path.cwd())})
"""


@pytest.mark.parametrize("kind", ["private", "job"])
def test_a_trial_runs_in_the_projects_folder_or_in_a_copy_of_it(
    kind: str, local_cluster: Project, tmp_path: Path
) -> None:
    project = local_cluster.folder
    (project / "relative.py").write_text(TASK)
    (project / "numbers").mkdir(exist_ok=True)
    (project / "numbers" / "values.txt").write_text("3.5")
    flags = ("--task", "relative", "--storage", str(tmp_path), "--name", kind, "--samples", "2")
    if kind == "private":
        done = local_cluster.python("jobs/random_search.py", *flags)
    else:
        done = submit(local_cluster, "random_search", *flags)
    assert done.returncode == 0, done.stdout
    table = read(kind, str(tmp_path)).table
    assert list(table["value"]) == [3.5, 3.5]
    assert {folder == str(project) for folder in table["folder"]} == {kind == "private"}
