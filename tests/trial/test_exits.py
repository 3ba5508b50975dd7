"""What a training function does to end its own process; here it is this one."""

import multiprocessing
import os
import signal
import sys
import threading

import pytest

import raysweep
from raysweep.storage import FolderStorage
from raysweep.trial import exits
from raysweep.trial.actor import TrialActor
from raysweep.trial.exits import Exited
from raysweep.trial.run import Run, TrialSpec


@pytest.fixture
def error_of(tmp_path):
    """Runs a function as a trial of this process; returns what its step raised."""
    actors = []

    def run(function):
        actors.append(TrialActor())
        actors[-1].prepare(TrialSpec(lambda config: function(), FolderStorage(str(tmp_path)), 1))
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
            actors[-1].start(Run("00000", {}, {}), [])
        return caught.value

    yield run
    for each in actors:
        each.end(5)


def interrupted():
    raise KeyboardInterrupt


def quits():
    raise SystemExit("no data")


FIX = "return from it instead, or raise an exception"


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda: sys.exit(), f"called sys.exit() at {{}}: {FIX}"),
        (lambda: sys.exit(0), f"called sys.exit(0) at {{}}: {FIX}"),
        (lambda: sys.exit(3), f"called sys.exit(3) at {{}}: {FIX}"),
        (quits, f"called sys.exit('no data') at {{}}: {FIX}"),
        (lambda: os._exit(3), f"called os._exit(3) at {{}}: {FIX}"),
        (lambda: os.abort(), f"called os.abort() at {{}}: {FIX}"),
        (interrupted, "raised KeyboardInterrupt at {}"),
    ],
)
def test_an_exit_is_an_exception_with_the_line_of_the_function(error_of, function, text):
    code = function.__code__
    line = code.co_firstlineno + (function in (quits, interrupted))
    error = error_of(function)
    assert type(error) is Exited
    assert str(error) == f"the training function {text.format(f'{__file__}, line {line}, in {code.co_name}')}"


def test_a_signal_handler_is_refused_in_plain_words(error_of):
    error = error_of(lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    assert isinstance(error, ValueError)
    [note] = error.__notes__
    assert note.startswith(f"no signal handler at {__file__}, line ")
    assert "runs in a thread of its process" in note


def test_an_ordinary_exception_is_raised_as_it_is(error_of):
    raised = OSError("no upload")

    def fails():
        raise raised

    error = error_of(fails)
    assert error is raised
    assert not hasattr(error, "__notes__")


def test_the_real_calls_are_back_when_the_function_has_ended(error_of):
    before = os._exit, os.abort, os.kill
    error_of(lambda: os._exit(3))
    assert (os._exit, os.abort, os.kill) == before


def test_an_exit_that_the_function_catches_does_not_end_the_process(error_of):
    def tries():
        try:
            os._exit(3)
        except SystemExit:
            raise OSError("told in another way") from None

    assert isinstance(error_of(tries), OSError)


def test_a_child_may_exit_as_it_wants(error_of):
    def with_children():
        context = multiprocessing.get_context("fork")
        codes = []
        for target in (lambda: os._exit(5), lambda: None, lambda: sys.exit(6), lambda: os.kill(os.getpid(), 9)):
            child = context.Process(target=target)
            child.start()
            child.join()
            codes.append(child.exitcode)
        raise OSError(codes)

    assert error_of(with_children).args == ([5, 0, 6, -9],)


def test_another_thread_really_ends_the_process_but_notes_it(monkeypatch):
    noted, done = [], []
    monkeypatch.setattr(os, "_exit", lambda status: done.append(status))
    monkeypatch.setattr(os, "kill", lambda pid, number: done.append((pid, number)))
    with exits.refused(noted.append):
        thread = threading.Thread(target=lambda: os._exit(4))
        thread.start()
        thread.join()
        os.kill(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(1, signal.SIGKILL)
    own = os.getpid()
    assert noted == ["os._exit(4)", "SIGKILL"]
    assert done == [4, (own, signal.SIGKILL), (own, signal.SIGUSR1), (1, signal.SIGKILL)]


def test_it_has_reported_before(tmp_path):
    def reports_and_exits(config):
        raysweep.report({"loss": 1.0})
        sys.exit(0)

    actor = TrialActor()
    actor.prepare(TrialSpec(reports_and_exits, FolderStorage(str(tmp_path)), 4))
    assert actor.start(Run("00000", {}, {}), []).iteration == 1
    with pytest.raises(Exited, match=r"called sys\.exit\(0\)"):
        actor.step()
    actor.end(5)
