"""A sweep that fails before its first trial leaves its name free; one with a trial, or of before, is kept."""

from pathlib import Path

import pytest
from ray import tune

import raysweep
from raysweep.driver.runner import Runner
from raysweep.errors import ClusterError
from raysweep.history import results
from raysweep.history.lease import Lease
from raysweep.loop.random_grid_search import Variants

SPACE = {"x": tune.uniform(0.0, 1.0)}
SETTINGS = {"metric": "loss", "mode": "min", "max_iterations": 1, "name": "s"}
ERRORS = [ZeroDivisionError("no such share"), ClusterError("no cluster answers"), KeyboardInterrupt(), SystemExit(0)]


def train(config):
    raysweep.report({"loss": config["x"]})


@pytest.fixture
def sweep(private_ray, storage):
    """Runs a sweep of two trials, named s."""
    return lambda **more: raysweep.run(
        "random_search", train, SPACE, storage=storage, **{"samples": 2, **SETTINGS, **more}
    )


@pytest.fixture
def files(storage):
    """The files of the sweep, without its lease."""
    place = Path(storage) / "s"
    return lambda: {path for path in place.rglob("*") if path.is_file() and path.parent.name != "lease"}


def fails(monkeypatch, error, after=0, at=(Variants, "suggest")):
    """From the call after so many, a method raises; a first suggestion is asked for before the sweep begins."""
    after += at == (Variants, "suggest")
    original, calls = getattr(*at), []

    def method(self, *arguments):
        calls.append(arguments)
        if len(calls) > after:
            raise error
        return original(self, *arguments)

    monkeypatch.setattr(*at, method)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("at", [(Variants, "suggest"), (Runner, "_print_start")], ids=lambda at: at[1])
def test_the_name_stays_free_if_no_trial_was_suggested(sweep, files, storage, monkeypatch, error, at):
    fails(monkeypatch, error, at=at)
    with pytest.raises(type(error)) as caught:
        sweep()
    assert caught.value is error, "a notebook sees the original one"
    assert files() == set()
    assert results.names(storage) == []
    monkeypatch.undo()
    assert len(sweep().state.trials) == 2


def test_a_sweep_with_a_trial_is_kept(sweep, files, storage, monkeypatch):
    fails(monkeypatch, ZeroDivisionError("no such share"), after=1)
    with pytest.raises(ZeroDivisionError):
        sweep()
    assert results.names(storage) == ["s"]
    monkeypatch.undo()
    assert len(sweep(resume="must").state.trials) == 2


def test_a_resumed_sweep_is_never_touched(sweep, files, storage, monkeypatch):
    sweep()
    before = files()
    fails(monkeypatch, ZeroDivisionError("no such share"))
    with pytest.raises(ZeroDivisionError):
        sweep(resume="must", samples=3)
    assert before <= files()
    assert len(results.read("s", storage).state.trials) == 2


def test_nor_is_one_that_another_driver_has_taken_over(sweep, files, monkeypatch):
    fails(monkeypatch, ZeroDivisionError("no such share"))
    monkeypatch.setattr(Lease, "holds", lambda self: False)
    with pytest.raises(ZeroDivisionError):
        sweep()
    assert {"sweep.json"} <= {path.name for path in files()}
