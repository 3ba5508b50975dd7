"""What may import what, and how a file of jobs/ or tasks/ may be called."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
JOBS = sorted(p for p in (ROOT / "jobs").glob("*.py") if p.stem != "__init__")
TASKS = sorted(p for p in (ROOT / "tasks").glob("*.py") if p.stem != "__init__")
MOST_LINES = 80

every_job = pytest.mark.parametrize("job", JOBS, ids=lambda path: path.stem)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def test_layers_are_kept():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@every_job
def test_a_job_imports_no_job_and_no_task(job):
    assert not [name for name in imported(job) if name.split(".")[0] in ("", "jobs", "tasks")]


@pytest.mark.parametrize("path", JOBS + TASKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_file_shadows_a_module_when_its_folder_is_the_scripts_folder(path):
    # `python jobs/x.py` puts jobs/ first on sys.path: jobs/random.py would be every library's `random`.
    assert path.stem not in sys.stdlib_module_names
    assert path.stem not in importlib.metadata.packages_distributions()


@every_job
def test_a_job_is_short_and_opens_with_its_command(job):
    text = job.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    commands = [line.strip() for line in ast.get_docstring(ast.parse(text)).splitlines()]
    assert any(line.startswith(f"python jobs/{job.stem}.py ") for line in commands)


def test_a_process_that_runs_trials_imports_nothing_heavy():
    heavy = {
        "ray.tune",
        "ray.train",
        "ray.data",
        "pandas",
        "pyarrow",
        "optuna",
        "torch",
        "scipy",
        "pydantic",
        "raysweep.loop",
    }
    code = f"import sys, raysweep.trial.actor, raysweep; raysweep.report; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    "room", sorted(p.parent for p in (ROOT / "raysweep").rglob("__init__.py")), ids=lambda p: p.name
)
def test_a_room_says_what_each_of_its_modules_is(room):
    about = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    inside = {path.stem for path in room.glob("[!_]*") if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert not {name for name in inside if not re.search(rf"\b{name}\b", about)}
