"""Which ends of a trial count as its failure, and what is done then."""

from __future__ import annotations

import importlib
import os
import signal
import time
from pathlib import Path
from unittest import mock

import pytest
from ray import tune
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)
from ray.train._internal.storage import StorageContext
from ray.tune.execution import tune_controller
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

from raysweep.checkpoint import Checkpoint
from raysweep.errors import Corrupt, StorageError, Unavailable
from raysweep.failure import (
    MOST_LOSSES,
    MOST_REFUSALS,
    ActorManager,
    Controller,
    Killed,
    Kind,
    NotFinite,
    RecoveringTrial,
    Unreported,
    kind_of,
)
from raysweep.trial import pointer

LOST = [ActorDiedError(), ActorUnavailableError("connection reset", None)]
FULL = OutOfMemoryError("the node is low on memory")


class CudaOutOfMemory(RuntimeError):
    """As torch's own, which is not imported for a name."""


CudaOutOfMemory.__name__, CudaOutOfMemory.__module__ = "OutOfMemoryError", "torch"


def raised(error):
    return RayTaskError("step", "Traceback …", error, pid=1, ip="127.0.0.1", proctitle="trial")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (raised(ValueError("upside down")), Kind.EXCEPTION),
        (raised(Unreported("nothing")), Kind.UNREPORTED),
        (raised(NotFinite("nan")), Kind.NAN),
        (raised(MemoryError()), Kind.MEMORY),
        (raised(Unavailable("503")), Kind.STORAGE),
        (raised(StorageError("disk full")), Kind.REFUSED),
        (raised(Corrupt("changed")), Kind.REFUSED),
        (CudaOutOfMemory("CUDA out of memory"), Kind.GPU_MEMORY),
        (Killed(FULL), Kind.MEMORY),
        (Killed(NodeDiedError("gone")), Kind.NODE),
        (RayActorError(error_msg="The actor died because its node has died."), Kind.NODE),
        (RayActorError(preempted=True), Kind.NODE),
        (LOST[0], Kind.LOST),
        (LOST[1], Kind.LOST),
        (None, Kind.EXCEPTION),
    ],
)
def test_an_error_is_of_a_kind(error, kind):
    assert kind_of(error) is kind


def test_tune_uses_the_actor_manager_that_survives_a_kill_for_memory(monkeypatch):
    assert tune_controller.RayActorManager is ActorManager
    heard = []
    monkeypatch.setattr(
        ActorManager.__bases__[0], "_actor_task_failed", lambda self, task, exception: heard.append(exception)
    )
    manager = object.__new__(ActorManager)
    for error in (FULL, LOST[0], raised(ValueError())):
        manager._actor_task_failed(object.__new__(TrackedActorTask), error)
    assert [type(error) for error in heard] == [Killed, ActorDiedError, RayTaskError]
    assert heard[0].reason is FULL


class DiesInItsReset(tune.Trainable):
    """Its first actor that is reused for another trial ends its own process."""

    def step(self):
        return {"loss": self.config["x"], "done": True}

    def save_checkpoint(self, folder):
        return {}

    def load_checkpoint(self, state):
        pass

    def reset_config(self, new_config):
        try:
            Path(new_config["armed"]).unlink()
        except FileNotFoundError:
            return True
        os.kill(os.getpid(), signal.SIGKILL)
        return False


@pytest.mark.parametrize("strictly", [pytest.param("ours"), pytest.param("rays", marks=pytest.mark.xfail(strict=True))])
def test_a_trial_survives_the_death_of_an_actor_that_is_reset_for_it(strictly, private_ray, tmp_path, monkeypatch):
    tune_module = importlib.import_module("ray.tune.tune")
    assert tune_module.TuneController is Controller
    if strictly == "rays":
        monkeypatch.setattr(tune_module, "TuneController", TuneController)
    armed = tmp_path / "armed"
    armed.touch()
    found = tune.Tuner(
        DiesInItsReset,
        param_space={"x": tune.grid_search([1, 2, 3]), "armed": str(armed)},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path), verbose=0, failure_config=tune.FailureConfig(max_failures=1)
        ),
    ).fit()
    assert not armed.exists(), "no actor was reused"
    assert [result.error for result in found] == [None] * 3


class Unstored(Trial):
    """Ray writes a trial's errors into a folder of the session, and here is no session."""

    local_path = None


class Recovering(RecoveringTrial, Unstored): ...


def make(timeout=None, max_failures=0, most=None, **bundle):
    trial = Unstored("failure", stub=True, max_failures=max_failures)
    trial.placement_group_factory = tune.PlacementGroupFactory([bundle or {"CPU": 1}])
    return Recovering.of(trial, timeout, most or {"CPU": 4, "GPU": 1})


@pytest.mark.parametrize("error", [*LOST, raised(Unavailable("503"))], ids=lambda error: type(error).__name__)
def test_a_lost_process_or_a_store_that_is_away_is_forgiven(error):
    trial = make()
    for _ in range(MOST_LOSSES):
        trial.handle_error(error)
        assert trial.should_recover()
    trial.handle_error(error)
    assert not trial.should_recover(), "a function that crashes its process again and again has failed"


def test_a_lost_node_is_never_counted():
    trial = make()
    for _ in range(3 * MOST_LOSSES):
        trial.handle_error(RayActorError(preempted=True))
        assert trial.should_recover()


@pytest.mark.parametrize("error", [ValueError("upside down"), Unreported("nothing")])
def test_an_error_of_the_function_is_counted(error):
    trial = make(max_failures=1)
    trial.handle_error(raised(error))
    assert trial.should_recover()
    trial.handle_error(raised(error))
    assert not trial.should_recover()


def test_nan_is_not_tried_again():
    trial = make(max_failures=5)
    trial.handle_error(raised(NotFinite("nan")))
    assert not trial.should_recover()


def test_a_storage_that_refuses_keeps_the_trial_for_a_resume():
    trial = make()
    for refused in (*[None] * MOST_REFUSALS, "runs: the disk is full"):
        trial.handle_error(raised(StorageError("runs: the disk is full")))
        assert (trial.should_recover(), trial.refused) == (True, refused)


@pytest.mark.parametrize(("timeout", "kind", "recovers"), [(5, Kind.TIMEOUT, False), (3600, Kind.LOST, True)])
def test_a_process_that_was_ended_because_its_time_was_up_is_a_failure(timeout, kind, recovers):
    trial = make(timeout)
    with ten_seconds_ago():
        trial.set_status(Trial.RUNNING)
    trial.handle_error(LOST[0])
    assert (trial.kind, trial.should_recover()) == (kind, recovers)


def test_the_time_of_a_trial_is_what_it_ran_and_not_what_it_waited():
    trial = make(timeout=15)
    with ten_seconds_ago():
        trial.set_status(Trial.RUNNING)
        trial.set_status(Trial.PAUSED)
    trial.set_status(Trial.RUNNING)
    trial.handle_error(LOST[0])
    assert trial.kind is Kind.LOST
    saved = Checkpoint("checkpoints/00000/000001-hash", 1, 1, "hash")
    trial.run_metadata.checkpoint_manager._latest_checkpoint_result = pointer(saved, {"time_total_s": 9.0})
    with ten_seconds_ago():
        trial.set_status(Trial.PENDING)
        trial.set_status(Trial.RUNNING)
    trial.handle_error(LOST[0])
    assert trial.kind is Kind.TIMEOUT


def ten_seconds_ago():
    return mock.patch("time.time", return_value=time.time() - 10)


def test_a_silent_trial_that_was_ended_hung():
    trial = make()
    trial.silent = True
    trial.handle_error(LOST[0])
    assert (trial.kind, trial.silent, trial.should_recover()) == (Kind.HANG, False, True)


@pytest.mark.parametrize(
    ("error", "before", "after"),
    [
        (raised(MemoryError()), {"CPU": 1}, {"CPU": 2}),
        (raised(MemoryError()), {"CPU": 3}, {"CPU": 4}),
        (Killed(FULL), {"CPU": 0.5, "GPU": 0.2}, {"CPU": 1, "GPU": 0.2}),
        (CudaOutOfMemory(), {"CPU": 1, "GPU": 0.2}, {"CPU": 1, "GPU": 0.4}),
    ],
)
def test_out_of_memory_is_tried_once_with_twice_as_much(error, before, after):
    trial = make(**before)
    trial.handle_error(error)
    assert (trial.should_recover(), trial.infeasible) == (True, False)
    trial.grow(trial.kind)
    assert trial.placement_group_factory.required_resources == after
    trial.handle_error(error)
    assert (trial.should_recover(), trial.infeasible) == (False, True)


def test_a_trial_that_has_all_of_a_node_is_infeasible_at_once():
    trial = make(CPU=4)
    trial.handle_error(raised(MemoryError()))
    assert (trial.should_recover(), trial.infeasible) == (False, True)


def test_a_driver_that_starts_again_counts_on():
    trial = make(max_failures=1)
    trial.remember(["lost", "exception", "memory", "node", "refused"])
    assert (trial.losses, trial.run_metadata.num_failures, trial.share("CPU")) == (1, 1, 2)
    trial.handle_error(raised(ValueError()))
    assert not trial.should_recover()


def test_a_trial_that_did_not_run_in_this_life_has_no_folder(tmp_path):
    trial = make()
    assert trial.path is None
    trial.storage = StorageContext(str(tmp_path), "sweep")
    assert trial.path is None
    trial.storage.trial_dir_name = "trial"
    assert trial.path == str(tmp_path / "sweep" / "trial")
