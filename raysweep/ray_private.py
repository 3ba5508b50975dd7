"""The private names of Ray that the kit still uses, all of them here; a test finds any other.

Ray promises nothing about a name that begins with an underscore, or lies in a module that does. Why there is no public
one, and what would break:

_schedule_trial_save        population based training calls it on what it takes for Ray's controller
_latest_checkpoint_result   it writes there what a trial is to continue from
_s_max_1, _get_n0, _get_r0, _create_bracket     how many brackets HyperBand has, and how large they are
ENABLE_RAY_CLUSTER          whether Ray binds its ports to loopback only is read when it is imported
Config                      so is the mode of authentication: a private Ray sets it later, and has it read again
AuthenticationTokenLoader   so is the token; it also tells what it is, and whether there is one
GcsClient                   the one client that says at once whether a cluster refuses a token
NvidiaGPUAcceleratorManager     how many GPUs a Ray will find on this machine, before there is one
get_system_memory           how much memory a node has: the limit of its container, if that is less
global_worker               which file takes what a process of Ray's prints: a pipe may be between the two
create_package, _dir_travel, _get_excludes      what `ray job submit --working-dir` packs, .rayignore and all
get_runtime_env_default_excludes, RAY_RUNTIME_ENV_IGNORE_GITIGNORE      what it never packs
DASHBOARD_CLIENT_MAX_SIZE   how much the Jobs API takes
prepare_config, validate_config     what `ray up` itself checks of a cluster.yaml
_internal, _session, _train_fn_utils    whom `ray.tune.report` and `ray.train.report` talk to is a variable of a module
_resources      what `tune.with_resources` asks for: Ray's own reader refuses a function that takes data
_TrainingResult     a `Trainable` is told its iteration only by what its own `save` returned
_update_checkpoint_index    `Trainable.save` calls it on its storage
"""

from __future__ import annotations

import contextlib
import importlib.abc
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from raysweep import env

if TYPE_CHECKING:
    from ray.tune.experiment import Trial
    from ray.tune.schedulers import HyperBandScheduler


class SavesTrials:
    """The half of Ray's controller that population based training calls by a private name."""

    def saved(self, trial: Trial) -> Any:
        """The newest checkpoint of a trial, or None."""
        raise NotImplementedError

    def _schedule_trial_save(self, trial: Trial, result: Any = None) -> Any:
        """Called by PopulationBasedTraining, for a trial that may become a donor."""
        return self.saved(trial)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Of what Ray logs in this process, only warnings are shown meanwhile."""
    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def continue_from(trial: Trial, saved: Any) -> None:
    """Sets what `trial.checkpoint` is: `saved.checkpoint`. PopulationBasedTraining sets it so for an exploit."""
    trial.run_metadata.checkpoint_manager._latest_checkpoint_result = saved


def worker_log() -> str:
    """The file that takes what this process prints to stderr; empty if it is no worker of Ray's."""
    from ray._private.worker import global_worker

    return str(global_worker.get_err_file_path())


@contextlib.contextmanager
def loopback_only() -> Iterator[None]:
    """Every port of a Ray that this process starts meanwhile is bound to 127.0.0.1.

    "No clusters", which is Ray's way on Windows and macOS, is what does that.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ[env.RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER] = "0"  # for the processes of that Ray
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        del os.environ[env.RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER]


def read_auth_again() -> None:
    """Ray has read mode and token of authentication from its environment when it was imported: it reads them again."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def token() -> str:
    """The token of this process's cluster, from wherever Ray itself takes it; empty if there is none."""
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    loader = AuthenticationTokenLoader.instance()
    return str(loader.get_raw_token(ignore_auth_mode=True)) if loader.has_token(ignore_auth_mode=True) else ""


def is_refused(address: str) -> bool:
    """Whether the cluster at host:port refuses this process's token, or wants one that there is not.

    Ray itself tries twenty times to get in with a wrong token, and aborts the process without any.
    """
    from ray._raylet import AuthenticationTokenLoader, GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError

    try:
        if os.environ.get(env.RAY_AUTH_MODE) == "token" and not AuthenticationTokenLoader.instance().has_token():
            return True
        GcsClient(address=address)
    except AuthenticationError:
        return True
    return False


def one_bracket(samples: int, grace_period: int, max_t: int, reduction_factor: float) -> HyperBandScheduler:
    """Ray's HyperBand with a single bracket that holds all trials, instead of several of fixed sizes."""
    from ray.tune.schedulers import HyperBandScheduler

    scheduler = HyperBandScheduler(max_t=max_t, reduction_factor=reduction_factor)
    scheduler._s_max_1 = 1
    scheduler._get_n0 = lambda s: samples
    scheduler._get_r0 = lambda s: grace_period
    halvings, create = math.ceil(math.log(max_t / grace_period, reduction_factor)), scheduler._create_bracket
    scheduler._create_bracket = lambda s: create(halvings)
    return scheduler


def is_one_bracket(scheduler: object) -> bool:
    """Whether it is a scheduler of `one_bracket`, whose trials all wait for each other."""
    return getattr(scheduler, "_s_max_1", None) == 1


def gpus_of_this_machine() -> int:
    """How many GPUs Ray would find here."""
    from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager

    return int(NvidiaGPUAcceleratorManager.get_current_node_num_accelerators())


def memory_of_this_machine() -> int:
    """Bytes of memory that all processes of this node may have: of the machine, or of its container."""
    from ray._common.utils import get_system_memory

    return int(get_system_memory())


def pack(project: Path, package: Path, excludes: Sequence[str], parent: bool) -> None:
    """Writes a folder as the archive that `ray job submit --working-dir` would send; with `parent`, inside a folder."""
    from ray._private.runtime_env.packaging import create_package

    rules = all_excludes(excludes)
    create_package(str(project), package, heeds_gitignore(), include_parent_dir=parent, excludes=rules, logger=silent())


def travel(project: Path, excludes: Sequence[str], skip: Callable[[Path], bool], visit: Callable[[Path], None]) -> None:
    """Calls `visit` with each path that `pack` packs, folders too, but for those that `skip` names."""
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    rules = [skip, _get_excludes(project, all_excludes(excludes))]
    _dir_travel(project, rules, visit, heeds_gitignore(), logger=silent())


def upload_limit() -> int:
    """The bytes that a request to the Jobs API may have; it cannot be set."""
    from ray._private import ray_constants

    return ray_constants.DASHBOARD_CLIENT_MAX_SIZE


def all_excludes(excludes: Sequence[str]) -> list[str]:
    """Of .git, .venv and the like Ray itself warns at each submit, although it leaves them out."""
    from ray._private import ray_constants

    return [*ray_constants.get_runtime_env_default_excludes(), *excludes]


def heeds_gitignore() -> bool:
    from ray._private import ray_constants

    return os.environ.get(ray_constants.RAY_RUNTIME_ENV_IGNORE_GITIGNORE) != "1"


def silent() -> logging.Logger:
    """A logger that says nothing: what is large or cannot be packed is told before."""
    logger = logging.getLogger(f"{__name__}.silent")
    logger.disabled = True
    return logger


def check_cluster_config(config: dict[str, Any]) -> None:
    """What `ray up` checks of a cluster.yaml before it starts machines.

    Raises:
        jsonschema.ValidationError: the schema is not met.
        ValueError, RuntimeError, KeyError, TypeError, AttributeError, AssertionError: other faults, as Ray meets them.
    """
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


# The modules that hold whom Ray's functions talk to: ray.tune and the first ray.train; and the second ray.train, which
# RAY_TRAIN_V2_ENABLED chooses.
OF_TUNE = "ray.train._internal.session"
OF_TRAIN = "ray.train.v2._internal.execution.train_fn_utils"


class Introduced(importlib.abc.MetaPathFinder):
    """Whom `report`, `get_checkpoint` and `get_context` of ray.tune and ray.train talk to in this process.

    A trial may import Ray Tune in the midst of its function, or never, and the import takes longer than many a trial:
    it is not done for it, but waited for.

    Attributes:
        session: an object with the methods that Ray calls; None outside of a trial.
    """

    session: Any = None

    def enter(self, session: Any) -> None:
        """Sets it now in what is imported, and in the rest when that is imported."""
        self.session = session
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        for name in (OF_TUNE, OF_TRAIN):
            if module := sys.modules.get(name):
                self.set_in(module)

    def set_in(self, module: Any) -> None:
        """Sets it in one of the two modules."""
        if module.__name__ == OF_TUNE:
            module._session = self.session
        else:
            module._train_fn_utils = self.session

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Called by Python for each import; finds only the modules that hold whom Ray's functions talk to."""
        found = PathFinder.find_spec(fullname, path, target) if fullname in (OF_TUNE, OF_TRAIN) else None
        if found is not None and found.origin is not None:
            found.loader = SetWhenLoaded(fullname, found.origin)
        return found


class SetWhenLoaded(SourceFileLoader):
    """Loads a module as Python does, and sets in it whom Ray's functions talk to."""

    def exec_module(self, module: ModuleType) -> None:
        """Called by Python once for each import."""
        super().exec_module(module)
        introduced.set_in(module)


introduced = Introduced()


def resources_of(train: Any) -> Any:
    """What `tune.with_resources` was given for a function; None if it was not called."""
    return getattr(train, "_resources", None)


def result_of(checkpoint: Any, metrics: dict[str, Any]) -> Any:
    """What `Trainable.save` returned when it saved this checkpoint, after a step with these metrics."""
    from ray.train._internal.session import _TrainingResult

    return _TrainingResult(checkpoint, metrics)


class KeptByTheTrial:
    """The storage of a `Trainable` whose checkpoints somebody else keeps.

    Attributes:
        trial_working_directory: the folder of the trial, on this node.
        trial_fs_path: the same.
    """

    def __init__(self, folder: str) -> None:
        self.trial_fs_path = self.trial_working_directory = folder
        self.sync_config = self
        self.sync_artifacts_on_checkpoint = False

    def persist_artifacts(self, force: bool = False) -> None:
        """Called after each step."""

    def _update_checkpoint_index(self, metrics: dict[str, Any]) -> None:
        """Called before a checkpoint is handed over."""

    def persist_current_checkpoint(self, checkpoint: Any) -> Any:
        """Hands a checkpoint over: whoever called `save` keeps it."""
        return checkpoint
