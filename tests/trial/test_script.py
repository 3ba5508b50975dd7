"""Any program as a training function: what it prints, what it saves, and how it ends."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from raysweep.storage import FolderStorage
from raysweep.trial import leash
from raysweep.trial import session as sessions
from raysweep.trial.metrics import Unreported
from raysweep.trial.run import Run, TrialSpec
from raysweep.trial.script import Script, ScriptFailed
from raysweep.trial.session import Report, Session

PROGRAM = str(Path(__file__).parents[1] / "programs" / "train.py")
SAVING = ("--output-dir", "{checkpoint}", "--seconds", "0.2")
TEXT = (r"Epoch (?P<epoch>\d+)", r"loss: (?P<loss>\S+)")


def script(*words, patterns=()):
    return Script((sys.executable, PROGRAM, "--lr", "{lr}", *words), patterns, grace=5.0)


def python(code):
    return Script((sys.executable, "-c", code.replace("{", "{{").replace("}", "}}")), grace=5.0)


@pytest.fixture
def open_session(tmp_path, monkeypatch):
    """Opens a session as the trial's actor does; each is ended, and leaves no process."""
    opened = []

    def open_session(start=None, max_iterations=3, **config):
        spec = TrialSpec(len, FolderStorage(str(tmp_path)), max_iterations, numeric=("loss",))
        opened.append(Session(spec, Run("00000", {"lr": 0.5, **config}, {}, start)))
        monkeypatch.setattr(sessions, "_session", opened[-1])
        return opened[-1]

    yield open_session
    assert all(each.end(20) for each in opened)
    assert not _children()


def _children():
    """Processes of this one that have not been waited for, or are somebody else's."""
    return [each for each in psutil.Process().children(recursive=True) if PROGRAM in each.cmdline()]


def reports(session, train, count):
    found = []
    for _ in range(count):
        found.append(session.next(train))
        if isinstance(found[-1], BaseException):
            raise found[-1]
        assert found[-1] is not None, f"it returned after {len(found) - 1} reports"
    return found


@pytest.mark.parametrize(
    ("words", "patterns"),
    [((), ()), (("--style", "python"), ()), (("--style", "text"), TEXT)],
    ids=["json", "python", "text"],
)
def test_each_epoch_that_it_prints_is_a_report(open_session, words, patterns):
    train = script("--epochs", "{max_iterations}", *words, patterns=patterns)
    session = open_session()
    found = reports(session, train, 3)
    assert [each.metrics["epoch"] for each in found] == [1, 2, 3]
    assert [round(each.metrics["loss"], 4) for each in found] == [0.25, 0.0625, 0.0156]
    assert all(each.checkpoint is None for each in found)
    assert session.next(train) is None


def test_what_else_it_prints_goes_with_the_report(open_session):
    session = open_session()
    assert session.next(script()).metrics["note"] == "fine"


@pytest.mark.parametrize("order", [(), ("--print-first",)], ids=["saves first", "prints first"])
def test_it_resumes_from_its_folder_and_no_epoch_is_reported_twice(open_session, order):
    train = script("--epochs", "6", *SAVING, *order)
    first = open_session(max_iterations=6)
    before = reports(first, train, 3)
    assert first.end(20)
    saved = [each.checkpoint for each in before if each.checkpoint]
    if not order:  # one that prints first may be stopped before it saves: its files come with the next report then
        assert [each.iteration for each in saved[-2:]] == [2, 3]
    assert saved[-1].iteration in (2, 3)
    second = open_session(start=saved[-1], max_iterations=6)
    left = list(range(saved[-1].iteration + 1, 7))
    after = reports(second, train, len(left))
    assert [each.iteration for each in after] == left
    assert [each.metrics["epoch"] for each in after] == left


def test_what_is_saved_is_never_half_a_file(open_session):
    train = script("--epochs", "5", *SAVING, "--print-first")
    session = open_session(max_iterations=5)
    found = reports(session, train, 5)
    assert session.end(20)
    for each in [each for each in found if each.checkpoint]:
        second = open_session(start=each.checkpoint)
        with second.resume_folder() as folder:
            state = json.loads((folder / "last.json").read_text())
        assert state["epochs"] == list(range(1, state["epoch"] + 1))


def test_it_is_stopped_while_the_sweep_decides(open_session):
    session = open_session()
    session.next(script("--epochs", "1000"))
    (process,) = _children()
    assert process.status() == psutil.STATUS_STOPPED
    assert session.end(20)
    assert not process.is_running()


def test_it_may_clean_up_at_sigterm(open_session, tmp_path):
    code = f"""
import signal, sys, time
def end(*_):
    open({str(tmp_path / "cleaned")!r}, "w").close()
    sys.exit()
signal.signal(signal.SIGTERM, end)
print({{"loss": 1}})
time.sleep(100)
"""
    session = open_session()
    session.next(python(code))
    assert session.end(20)
    assert (tmp_path / "cleaned").exists()


def test_what_it_started_ends_with_it_even_if_it_ignores_sigterm(open_session, tmp_path):
    code = """
import subprocess, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
print({"loss": 1, "child": child.pid})
time.sleep(100)
"""
    session = open_session()
    train = Script((sys.executable, "-c", code.replace("{", "{{").replace("}", "}}")), grace=0.2)
    child = psutil.Process(session.next(train).metrics["child"])
    assert session.end(20)
    child.wait(10)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("print('no'); raise SystemExit(3)", ScriptFailed, "ended with exit code 3"),
        ("import os; os.kill(os.getpid(), 11)", ScriptFailed, "ended by SIGSEGV"),
        ("print({'accuracy': 1})", Unreported, "never printed `loss` in a line that is JSON"),
    ],
)
def test_how_it_failed_is_told(open_session, code, error, words):
    failed = open_session().next(python(code))
    assert isinstance(failed, error)
    assert words in str(failed)


def test_a_program_that_is_not_there(open_session):
    failed = open_session().next(Script(("no-such-program", "{lr}")))
    assert "ended with exit code 127" in str(failed)


def test_a_file_with_the_whole_configuration(open_session):
    code = "import json, sys; print(json.dumps({'loss': json.load(open(sys.argv[1]))['model']['width']}))"
    train = Script((sys.executable, "-c", code.replace("{", "{{").replace("}", "}}"), "{config}"))
    assert open_session(model={"width": 8}).next(train).metrics["loss"] == 8


def test_nested_parameters_and_formats(open_session):
    code = "import sys; print({'loss': float(sys.argv[1]), 'text': sys.argv[2]})"
    words = ("{optimizer/momentum:.2f}", "lr {lr:.0e}")
    train = Script((sys.executable, "-c", code.replace("{", "{{").replace("}", "}}"), *words))
    report = open_session(optimizer={"momentum": 0.123}).next(train)
    assert isinstance(report, Report)
    assert (report.metrics["loss"], report.metrics["text"]) == (0.12, "lr 5e-01")


@pytest.mark.parametrize(("words", "name"), [(("python", "train-it.py"), "train_it"), (("./run",), "run")])
def test_its_name_is_that_of_the_program(words, name):
    assert Script(words).__name__ == name


def test_a_program_does_not_outlive_the_process_that_started_it():
    waiting = f"{shlex.quote(sys.executable)} -c 'import time; print(1, flush=True); time.sleep(100)'"
    starter = f"""
import os, shlex, subprocess, sys, time
command = [sys.executable, "-I", "-S", {leash.__file__!r}, str(os.getpid()), *shlex.split({waiting!r})]
child = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(100)
"""
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        os.kill(process.pid, signal.SIGKILL)
        child.wait(10)
