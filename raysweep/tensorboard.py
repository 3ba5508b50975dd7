"""TensorBoard events of each trial, under `tensorboard/<trial>/` of the sweep's storage."""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.result import TRAINING_ITERATION

from raysweep.points import flat
from raysweep.record import NotSaved, metrics_of
from raysweep.state import SweepState, is_number
from raysweep.storage import Storage

FOLDER = "tensorboard"


class TensorBoard(NotSaved, tune.Callback):
    """Writes each result as scalars, and each trial's configuration as hyperparameters.

    Into a folder it writes in place; for an object store it writes into a temporary folder and puts a trial's
    file when the trial ends. What a killed driver had not written or put is made again from the journal.

    Args:
        storage: the sweep's own folder or prefix.
        metric: the metric shown beside the hyperparameters.
        state: the sweep as the journal has it; it grows while the sweep runs.
    """

    def __init__(self, storage: Storage, metric: str, state: SweepState | None = None) -> None:
        self._storage, self._metric = storage, metric
        self._state = state or SweepState()
        self._resumed = frozenset(id for id, trial in self._state.trials.items() if trial.results)
        self._temporary: Path | None = None
        self._writers: dict[str, Any] = {}

    def setup(self, *_: Any, **__: Any) -> None:
        """Called by Tune before the first trial."""
        self._make_missing(ended=True)

    def _make_missing(self, ended: bool) -> None:
        """Files of trials that an earlier life had results of, and put no file; only of those that have ended."""
        if not self._resumed:
            return
        there = {key.split("/")[1] for key in self._storage.list(FOLDER)}
        for trial_id in sorted(self._resumed - there):
            trial = self._state.trials[trial_id]
            if trial.last and (trial.ended or not ended):
                self._open(trial_id, before=math.inf)
                self._finish(trial_id, trial.last.config, trial.last.metrics)

    def _open(self, trial_id: str, before: float) -> Any:
        """A trial's writer; an earlier life's results, which come before this iteration, stand in its file already."""
        if trial_id in self._resumed:
            self._storage.delete_tree(f"{FOLDER}/{trial_id}")
        writer = self._writers[trial_id] = _writer(self._folder(trial_id))
        if trial_id in self._resumed:
            for iteration, result in sorted(self._state.trials[trial_id].results.items()):
                if iteration < before:
                    _add(writer, result.metrics, iteration)
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
        writer = self._writers.get(trial.trial_id) or self._open(trial.trial_id, before=step)
        _add(writer, metrics_of(result), step)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called by Tune when a trial ended."""
        self._finish(trial.trial_id, dict(trial.config), trial.last_result or {})

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called by Tune when a trial failed for good."""
        self._finish(trial.trial_id, dict(trial.config), trial.last_result or {})

    def _finish(self, trial_id: str, config: dict[str, Any], result: dict[str, Any]) -> None:
        writer = self._writers.pop(trial_id, None)
        if writer is None:
            return
        shown = {key: v if isinstance(v, bool | int | float | str) else str(v) for key, v in flat(config).items()}
        if is_number(result.get(self._metric)):
            from tensorboardX.summary import hparams

            for summary in hparams(shown, {self._metric: result[self._metric]}):
                writer.file_writer.add_summary(summary)
        writer.close()
        if self._temporary is not None:
            for file in sorted((self._temporary / trial_id).iterdir()):
                self._storage.put(f"{FOLDER}/{trial_id}/{file.name}", file.read_bytes())

    def close(self) -> None:
        """Closes what is still open; a sweep that was interrupted has running trials."""
        for trial_id in list(self._writers):
            self._finish(trial_id, {}, {})
        self._make_missing(ended=False)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _add(writer: Any, metrics: dict[str, Any], step: int) -> None:
    for key, value in metrics.items():
        if is_number(value):
            writer.add_scalar(key, value, step)


def _writer(folder: Path) -> Any:
    """A SummaryWriter. tensorboardX imports torch where it can, for tensors that it never gets here: that takes
    seconds, so it may not.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter(str(folder), flush_secs=10)
