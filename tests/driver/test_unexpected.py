"""What a job prints of an exception that nobody expected: one paragraph, and where the traceback is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from raysweep.driver import main
from raysweep.driver.unexpected import FILE, describe
from raysweep.spec.flags import Flags
from raysweep.storage import open_storage
from raysweep.values import flat
from tests.forked import run_job
from tests.ray_project import ROOT, clean_environment

TASK = "import sys\nfrom tasks.quadratic import METRIC, MODE, MAX_ITERATIONS, SPACE, train as fit\n"
JOB = "import raysweep\nfrom ray import tune\n{}\nif __name__ == '__main__':\n    raysweep.main(tune_config)\n"
FIRST = """from ray.tune.search import Searcher
class Mine(Searcher):
    def set_search_properties(self, *args, **more): return True
    def suggest(self, trial_id): return {}["missing"]
    def on_trial_complete(self, *args, **more): pass
def tune_config(sweep, knobs): return tune.TuneConfig(search_alg=Mine("loss", "min"))"""
SECOND = FIRST.replace('return {}["missing"]', 'return {"x": 1.0, "y": 1.0, "pace": {"00000": 0.5}[trial_id]}')
SCHEDULER = """from ray.tune.schedulers import FIFOScheduler
class Mine(FIFOScheduler):
    def on_trial_result(self, *args): raise KeyError("missing")
def tune_config(sweep, knobs): return tune.TuneConfig(scheduler=Mine())"""
FILES = {
    "zero.py": JOB.format("def tune_config(sweep, knobs): return 1 / 0"),
    "first.py": JOB.format(FIRST),
    "second.py": JOB.format(SECOND),
    "schedules.py": JOB.format(SCHEDULER),
    "loads.py": f"{TASK}def load_data(root): return 1 / 0\ndef train(config, data): fit(config)\n",
    "exits.py": f"{TASK}def load_data(root): sys.exit(0)\ndef train(config, data): fit(config)\n",
    "leaves.py": f"{TASK}sys.exit(0)\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "tmp").mkdir()
    return tmp_path


def run(folder: Path, job: str, task: str = "quadratic") -> subprocess.CompletedProcess[str]:
    path = folder / job if job.endswith(".py") else ROOT / "jobs" / f"{job}.py"
    flags = ("--task", task, "--name", "s", "--storage", str(folder / "runs"), "--samples", "2")
    return run_job(path, *flags, cwd=folder, env=clean_environment(folder, TMPDIR=str(folder / "tmp")))


@pytest.mark.parametrize(
    ("job", "task", "told", "kept"),
    [
        ("zero.py", "quadratic", "ZeroDivisionError: division by zero at {}/zero.py, line 3, in tune_config", False),
        ("asha", "loads", "ZeroDivisionError: division by zero at {}/loads.py, line 3, in load_data", False),
        ("asha", "exits", "sys.exit(0) was called at {}/exits.py, line 3, in load_data", False),
        ("second.py", "quadratic", "KeyError: '00001' at {}/second.py, line 6, in suggest", True),
        ("schedules.py", "quadratic", "KeyError: 'missing' at {}/schedules.py, line 5, in on_trial_result", True),
    ],
)
def test_a_fault_of_the_users_is_told_with_their_line(folder: Path, job: str, task: str, told: str, kept: bool) -> None:
    done = run(folder, job, task)
    assert done.returncode == 1
    place, end = ("runs/s", "; its trials are safe: continue with --name s --resume auto") if kept else ("tmp", "")
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    [file] = (folder / place).glob(f"*{FILE}")
    assert line == f"error: {told.format(folder)}; the full traceback is in {file}{end}"
    assert "Traceback" not in done.stdout + done.stderr
    assert "Traceback" in file.read_text()
    assert (folder / "runs" / "s" / "sweep.json").exists() is kept


def test_a_searcher_that_suggests_nothing_is_refused_before_the_start(folder: Path) -> None:
    done = run(folder, "first.py")
    assert done.returncode == 2
    said = f"KeyError: 'missing' at {folder}/first.py, line 6, in suggest"
    assert f"error: `first` cannot draw a configuration of this space: {said}" in done.stderr
    assert not (folder / "runs" / "s").exists()


def test_a_task_that_exits_when_it_is_imported_is_refused(folder: Path) -> None:
    done = run(folder, "asha", "leaves")
    assert done.returncode == 2
    assert "`--task leaves`: it cannot be imported: SystemExit: 0" in done.stderr


def raised(call: object) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        call()  # type: ignore[operator]
    error = caught.value
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next.tb_next  # type: ignore[union-attr] - without this file's lines
    return error


def test_a_fault_of_ours_says_how_to_report_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = describe(raised(lambda: flat(None)), str(tmp_path), None)  # type: ignore[arg-type]
    [file] = tmp_path.glob(f"*{FILE}")
    place = r"/raysweep/values\.py, line \d+, in flat: no code of yours is in the traceback: please report it, with "
    assert re.fullmatch(rf"AttributeError: 'NoneType' .* at .*{place}{re.escape(str(file))}", text)


def test_a_store_that_is_away_does_not_hide_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "file").touch()
    assert "AttributeError" in describe(raised(lambda: flat(None)), str(tmp_path / "file" / "x"), "s")  # type: ignore[arg-type]


def test_what_the_exception_says_is_shortened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = describe(ValueError("many words\n" * 1000), str(tmp_path), None)
    assert len(text) < 1000
    assert len(text.splitlines()) == 1


def test_ctrl_c_before_the_loop_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert main._exit_code(interrupted, Flags()) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_the_traceback_goes_to_any_storage(tmp_path: Path) -> None:
    place = open_storage(str(tmp_path)).child("s")
    place.put("sweep.json", b"{}")
    text = describe(ValueError("upside down"), str(tmp_path), "s")
    assert place.get(FILE).decode() == "ValueError: upside down\n"
    assert f"{place.url}/{FILE}" in text
