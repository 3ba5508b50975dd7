"""The folder of a private Ray goes with its driver, also if that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from raysweep import temporary
from raysweep.driver import local_ray
from raysweep.spec.flags import Flags
from raysweep.spec.sweep import settle
from raysweep.spec.task import Task
from tests.ray_project import ROOT, clean_environment
from tests.waiting import PATIENCE_S, until

TASK = """
import time
from pathlib import Path
import raysweep
from tasks.quadratic import METRIC, MODE, SPACE
MAX_ITERATIONS = 1
HERE = Path(__file__).parent

def train(config):
    (HERE / "started").touch()
    while not (HERE / "go").exists():
        time.sleep(0.05)
    raysweep.report({"loss": 1.0})
"""


@pytest.fixture
def job(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A job whose one trial waits for the file `go`."""
    (tmp_path / "waits.py").write_text(TASK)
    flags = ["--task", "waits", "--name", "s", "--samples", "1", "--storage", str(tmp_path / "runs")]
    started = subprocess.Popen(
        [sys.executable, str(ROOT / "jobs" / "random_search.py"), *flags],
        cwd=tmp_path, env=clean_environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    yield started
    started.terminate()
    started.communicate(timeout=PATIENCE_S)


def folder_of(driver: psutil.Process) -> Path:
    files = [Path(file.path) for file in driver.open_files()]
    [owner] = [file for file in files if file.name == temporary.OWNER]
    return owner.parent


def test_the_folder_of_a_killed_driver_is_removed_by_the_next_one(job: subprocess.Popen[str], tmp_path: Path) -> None:
    until((tmp_path / "started").exists)
    [driver] = psutil.Process(job.pid).children()
    first = folder_of(driver)
    assert first.is_dir()
    (tmp_path / "started").unlink()
    driver.send_signal(signal.SIGKILL)

    until((tmp_path / "started").exists)
    [driver] = psutil.Process(job.pid).children()
    second = folder_of(driver)
    assert not first.exists()
    assert second.is_dir()

    (tmp_path / "go").touch()
    log, _ = job.communicate(timeout=PATIENCE_S)
    assert job.returncode == 0, log
    assert not second.exists()


def test_all_workers_of_a_trial_have_to_find_room_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_ray, "cpus", lambda: 4)
    task = Task("mine", lambda config: None, {}, "loss", "min", 1)

    def check(**flags: float) -> list[str]:
        return local_ray.check_machine(settle(Flags(**flags), "asha", task, ()))

    assert check(workers_per_trial=4) == []
    assert check(workers_per_trial=2, cpus_per_trial=2.0) == []
    assert check(workers_per_trial=3, cpus_per_trial=2.0) == [
        "`--workers-per-trial 3`: this machine has room for 2 workers of CPU 2: ask for at most that, or for less of"
        " each"
    ]
    [problem] = check(workers_per_trial=3, cpus_per_trial=8.0)
    assert problem.startswith("`--cpus-per-trial 8`: this machine has 4 CPU")


SLOW_START = """
import psutil
import ray
from ray._private import node, services
from raysweep.driver import local_ray

real, asked = services.get_node, []

def late(*arguments):
    asked.append(arguments)
    if len(asked) == 1:
        raise Exception(local_ray.TOO_SLOW + ". …")
    return real(*arguments)

services.get_node = late
local_ray.start()
raylets = [each for each in psutil.Process().children(recursive=True) if each.name() == "raylet"]
print(len(asked) > 1, ray.is_initialized(), [each.status() != psutil.STATUS_ZOMBIE for each in raylets].count(True))
"""


def test_a_ray_that_was_too_slow_to_start_is_started_again_and_nothing_of_the_first_one_is_left(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SLOW_START], cwd=tmp_path, env=clean_environment(tmp_path),
        capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.stdout.split() == ["True", "True", "1"], done.stderr
