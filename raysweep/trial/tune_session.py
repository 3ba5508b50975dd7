"""What Ray's own functions talk to in a trial of ours: code that was written for plain Ray Tune runs as it is.

`ray.tune.report`, `get_checkpoint` and `get_context`, those of `ray.train`, and the callbacks that Ray ships for other
frameworks all ask one object of the process, see `ray_private.introduced`. This one passes on to the trial's session.
Ray itself is imported only where the trial's code has imported it.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from numbers import Real
from pathlib import Path
from typing import Any

from raysweep import temporary
from raysweep.history import checkpoint as checkpoints
from raysweep.history.checkpoint import Checkpoint
from raysweep.trial import trainable, workers
from raysweep.trial.metrics import kept
from raysweep.trial.run import Seat
from raysweep.trial.session import Session
from raysweep.values import DONE

log = logging.getLogger(__name__)

RETURNED = "_metric"  # what Ray calls a number that a function returns


class TuneSession:
    """One run of a trial, as Ray's functions see it: a training, of one worker or of several.

    To Ray's second `ray.train` a session without a rank is one of Tune, in which it refuses to report; with a rank,
    `ray.train.report` does what it did for years, and `ray.tune.report` does not care.

    Args:
        session: of the trial.
        own_folder: whether the function runs in the trial's folder, as Ray Tune has it.
        seat: which of the trial's workers this is, if it has several.
    """

    def __init__(self, session: Session, own_folder: bool = False, seat: Seat | None = None) -> None:
        self._session, self._own_folder = session, own_folder
        seat = seat or Seat(rank=0, world_size=1, local_rank=0, local_world_size=1, node_rank=0)
        self.world_rank, self.world_size = seat.rank, seat.world_size
        self.local_rank, self.local_world_size, self.node_rank = seat.local_rank, seat.local_world_size, seat.node_rank
        self._folders = contextlib.ExitStack()  # what the run has on this node's disk
        self._scratch: Path | None = None
        self._fetched: dict[str, Any] = {}  # key of a checkpoint -> the folder with its files
        self._told: set[str] = set()

    # What is reported.

    def report(self, metrics: Any, checkpoint: Any = None, **options: Any) -> None:
        """Reports one iteration, and keeps the files of Ray's checkpoint, as `raysweep.report` does.

        Args:
            metrics: as Ray takes them; what cannot be kept of them is left out, with a warning.
            checkpoint: Ray's, of a folder here or elsewhere.
            **options: how Ray would upload it; only whether the folder may be deleted afterwards counts.
        """
        plain, left_out = kept(metrics, self._session.spec.numeric)
        self._warn(left_out)
        with checkpoint.as_directory() if checkpoint else contextlib.nullcontext() as folder:
            self._session.report(plain, None, folder)
            if folder and options.get("delete_local_checkpoint_after_upload"):
                shutil.rmtree(folder, ignore_errors=True)
        if isinstance(metrics, dict) and metrics.get(DONE):
            self._session.finish()

    def _warn(self, left_out: list[str]) -> None:
        if new := [name for name in left_out if name not in self._told]:
            self._told.update(new)
            log.warning("report: %s: neither a number nor a text, and not kept", ", ".join(f"`{each}`" for each in new))

    def _returned(self, value: Any) -> None:
        """What a function returned or yielded is a report, if Ray Tune takes it for one: a dictionary or a number."""
        if isinstance(value, dict):
            self.report(value)
        elif isinstance(value, Real):
            self.report({RETURNED: value})

    # What it goes on from.

    @property
    def loaded_checkpoint(self) -> Any:
        """Ray's checkpoint with the files that were saved last, in a folder of this node; None if there are none.

        The folder stays until the end of the run: Ray's checkpoint may be opened as often as one likes.
        """
        newest = self._session.newest
        if newest is None or not newest.folder:
            return None
        if newest.key not in self._fetched:
            self._fetched[newest.key] = self._fetch(newest)
        from ray import tune

        return tune.Checkpoint.from_directory(self._fetched[newest.key])

    def _fetch(self, saved: Checkpoint) -> Any:
        if saved == self._session.run.start:
            return self._folders.enter_context(self._session.resume_folder())
        return checkpoints.load(self._session.spec.storage, saved, lambda: self.scratch(Path(saved.key).name))

    def get_checkpoint(self) -> Any:
        """The same, as `ray.train` asks for it."""
        return self.loaded_checkpoint

    # Where it is.

    def get_context(self) -> _Context:
        """What `ray.train.get_context` returns."""
        self.is_distributed()
        return _Context(self)

    @property
    def trial_id(self) -> str:
        """The trial's id."""
        return self._session.run.trial

    @property
    def trial_name(self) -> str:
        """A name that no other trial of any sweep has."""
        return f"{self.experiment_name}_{self.trial_id}"

    @property
    def experiment_name(self) -> str:
        """The sweep's name."""
        return self._session.spec.storage.url.rpartition("/")[2]

    @property
    def trial_resources(self) -> Any:
        """The trial's share of its node, as Ray writes it."""
        import ray
        from ray import tune

        assigned = ray.get_runtime_context().get_assigned_resources()
        return tune.PlacementGroupFactory([{kind: assigned.get(kind, 0.0) for kind in ("CPU", "GPU")}])

    @property
    def trial_dir(self) -> str:
        """A folder of this run on its node, which is removed at its end."""
        folder = self.scratch(self.trial_name)
        folder.mkdir(exist_ok=True)
        return str(folder)

    def scratch(self, name: str) -> Path:
        """A place for a folder, which is removed at the end of the run."""
        if self._scratch is None:
            self._scratch = self._folders.enter_context(temporary.folder("trial"))
        return self._scratch / name

    # The other workers.

    def is_distributed(self) -> bool:
        """Asked by `ray.train.torch.prepare_model` and the like, which take torch's group for granted."""
        if self.world_size > 1 and "torch" in sys.modules:
            workers.process_group()
        return self.world_size > 1

    def barrier(self) -> None:
        """Waits for the other workers."""
        if self.world_size > 1:
            workers.process_group().barrier()

    def broadcast_from_rank_zero(self, data: Any) -> Any:
        """What the worker of rank 0 has."""
        everyones = [data]
        if self.world_size > 1:
            workers.process_group().broadcast_object_list(everyones, src=0)
        return everyones[0]

    def get_preemption_info(self) -> None:
        """Nothing is known of the node's end."""

    def get_all_reported_checkpoints(self, **options: Any) -> list[Any]:
        """Those before the last one may have been deleted."""
        return []

    # The run.

    def iterations(self) -> Iterator[int]:
        """The numbers of the iterations still to do."""
        return self._session.iterations()

    def run(self, train: Callable[[dict[str, Any]], Any], config: dict[str, Any]) -> None:
        """Calls a training function, or drives a `Trainable`, as Ray Tune would.

        What a function returns is a report only if it made none: one of ours may return what it likes.
        """
        with self._places():
            if inspect.isclass(train):
                trainable.drive(train, config, self)
            elif inspect.isgenerator(value := train(config)):
                with contextlib.closing(value):
                    for each in value:
                        self._returned(each)
            elif self._session.iteration == 0:
                self._returned(value)

    @contextlib.contextmanager
    def _places(self) -> Iterator[None]:
        """In the trial's folder, if it is to run there; all of its folders are removed at the end."""
        before = Path.cwd()
        try:
            if self._own_folder:
                os.chdir(self.trial_dir)
            yield
        finally:
            os.chdir(before)
            self._folders.close()


class _Context:
    """`get_trial_id`, `get_world_rank` and the like: each returns what the session has under that name."""

    def __init__(self, session: TuneSession) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Callable[[], Any]:
        value = getattr(self._session, name.removeprefix("get_"))
        return lambda: value
