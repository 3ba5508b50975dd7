"""TensorBoard events of each trial, under `tensorboard/<trial>/` of the sweep's storage."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.result import TRAINING_ITERATION

from raysweep.errors import StorageError
from raysweep.points import flat
from raysweep.record import NotSaved, metrics_of
from raysweep.state import SweepState, is_number
from raysweep.storage import Storage

log = logging.getLogger(__name__)

FOLDER = "tensorboard"
FLUSH_SECONDS = 10.0  # until those who look while the sweep runs see a result


class TensorBoard(NotSaved, tune.Callback):
    """Writes each result as scalars, and each trial's configuration as hyperparameters.

    Into a folder it writes in place; for an object store it writes into a temporary folder and puts a trial's
    file when the trial ends. What a killed driver had not written or put is made again from the journal, and so is
    what a full disk or a store that is down refused: a picture of the journal fails no trial.

    Args:
        storage: the sweep's own folder or prefix.
        metric: the metric shown beside the hyperparameters.
        state: the sweep as the journal has it; it grows while the sweep runs.
    """

    def __init__(self, storage: Storage, metric: str, state: SweepState | None = None) -> None:
        self._storage, self._metric = storage, metric
        self._state = state or SweepState()
        self._older = {id for id, trial in self._state.trials.items() if trial.results}
        self._temporary: Path | None = None
        self._writers: dict[str, _Writer] = {}
        self._puts = ThreadPoolExecutor(1, thread_name_prefix="tensorboard-put")
        self._closing = threading.Event()
        self._flusher = threading.Thread(target=self._flush, name="tensorboard", daemon=True)

    def setup(self, *_: Any, **__: Any) -> None:
        """Called by Tune before the first trial."""
        self._flusher.start()
        self._make_missing(ended=True)

    def _flush(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS):
            for writer in list(self._writers.values()):
                with contextlib.suppress(OSError, ValueError):  # the next event meets it, too; ValueError: just closed
                    writer.flush()

    @contextlib.contextmanager
    def _optional(self, trial_id: str) -> Iterator[None]:
        """What is refused is left out, to be made from the journal at the next chance."""
        try:
            yield
        except (OSError, StorageError) as error:
            log.warning("trial %s is not in TensorBoard for now: %s", trial_id, error)
            self._older.add(trial_id)
            with contextlib.suppress(OSError, StorageError, KeyError):
                self._writers.pop(trial_id).close()
            with contextlib.suppress(OSError, StorageError):
                self._storage.delete_tree(f"{FOLDER}/{trial_id}")

    def _make_missing(self, ended: bool) -> None:
        """Files of trials that have results from before, and no file; only of those that have ended."""
        if not self._older:
            return
        try:
            there = {key.split("/")[1] for key in self._storage.list(FOLDER)}
        except StorageError as error:
            log.warning("what TensorBoard lacks is not known: %s", error)
            return
        for trial_id in sorted(self._older - there):
            trial = self._state.trials[trial_id]
            if trial.last and (trial.ended or not ended):
                with self._optional(trial_id):
                    self._open(trial_id, before=math.inf)
                    self._finish(trial_id, trial.last.config, trial.last.metrics)

    def _open(self, trial_id: str, before: float) -> _Writer:
        """A trial's writer; where a file or a part may be missing, the results before this one are written anew."""
        again = trial_id in self._older
        if again:
            self._storage.delete_tree(f"{FOLDER}/{trial_id}")
        writer = self._writers[trial_id] = _Writer(self._folder(trial_id))
        if again:
            for iteration, result in sorted(self._state.trials[trial_id].results.items()):
                if iteration < before:
                    writer.add(result.metrics, iteration)
        return writer

    def _folder(self, trial_id: str) -> Path:
        in_place = self._storage.local_path(f"{FOLDER}/{trial_id}")
        if in_place is None:
            self._temporary = self._temporary or Path(tempfile.mkdtemp(prefix="raysweep-tensorboard-"))
            return self._temporary / trial_id
        return in_place

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Called by Tune with each result."""
        step = result[TRAINING_ITERATION]
        with self._optional(trial.trial_id):
            writer = self._writers.get(trial.trial_id) or self._open(trial.trial_id, before=step)
            writer.add(metrics_of(result), step)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called by Tune when a trial ended."""
        with self._optional(trial.trial_id):
            self._finish(trial.trial_id, dict(trial.config), trial.last_result or {})

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called by Tune when a trial failed for good."""
        self.on_trial_complete(iteration, trials, trial)

    def _finish(self, trial_id: str, config: dict[str, Any], result: dict[str, Any]) -> None:
        writer = self._writers.get(trial_id)
        if writer is None:
            return
        if is_number(result.get(self._metric)):
            writer.add_configuration(config, {self._metric: result[self._metric]})
        writer.close()
        del self._writers[trial_id]
        if self._temporary is not None:
            self._puts.submit(self._put, trial_id, self._temporary / trial_id)

    def _put(self, trial_id: str, folder: Path) -> None:
        with self._optional(trial_id):
            for file in sorted(folder.iterdir()):
                self._storage.put(f"{FOLDER}/{trial_id}/{file.name}", file.read_bytes())

    def close(self) -> None:
        """Closes what is still open; a sweep that was interrupted has running trials."""
        self._closing.set()
        for trial_id in list(self._writers):
            with self._optional(trial_id):
                self._finish(trial_id, {}, {})
        self._puts.shutdown(wait=True)
        self._puts = ThreadPoolExecutor(1)
        self._make_missing(ended=False)
        self._puts.shutdown(wait=True)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


class _Writer:
    """A trial's file. tensorboardX's SummaryWriter has a thread that ends when the disk is full, for whose queue the
    next event then waits for ever; its EventsWriter raises.
    """

    def __init__(self, folder: Path) -> None:
        tensorboardx = _tensorboardx()
        folder.mkdir(parents=True, exist_ok=True)
        self._summary, self._event = tensorboardx.summary, tensorboardx.proto.event_pb2.Event
        self._events = tensorboardx.event_file_writer.EventsWriter(str(folder / "events"))
        self.flush, self.close = self._events.flush, self._events.close

    def add(self, metrics: dict[str, Any], step: int) -> None:
        """Those that are numbers."""
        for key, value in metrics.items():
            if is_number(value):
                self._write(self._summary.scalar(key, value), step)

    def add_configuration(self, config: dict[str, Any], metrics: dict[str, Any]) -> None:
        """As hyperparameters, beside what they led to."""
        shown = {key: v if isinstance(v, bool | int | float | str) else str(v) for key, v in flat(config).items()}
        for summary in self._summary.hparams(shown, metrics):
            self._write(summary)

    def _write(self, summary: Any, step: int = 0) -> None:
        self._events.write_event(self._event(summary=summary, step=step, wall_time=time.time()))


@functools.cache
def _tensorboardx() -> Any:
    """The library. It imports torch where it can, for tensors that it never gets here: that takes seconds, so it may
    not.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import tensorboardX
        import tensorboardX.event_file_writer
        import tensorboardX.proto.event_pb2
        import tensorboardX.summary
    finally:
        if hidden:
            del sys.modules["torch"]
    return tensorboardX
