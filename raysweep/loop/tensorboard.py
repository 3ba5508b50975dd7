"""TensorBoard events of each trial, under `tensorboard/<trial>/` of the sweep's storage.

An event file is a sequence of records, each a protocol buffer; the package `tensorboard` provides both. Importing it
takes half a second, most of it for boto3, and creating a trial's file a millisecond: a thread does both, so that the
sweep's loop never waits.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import shutil
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from raysweep import temporary
from raysweep.errors import StorageError
from raysweep.history.sweep_state import Result, SweepState, TrialRecord
from raysweep.loop.observers import Observer
from raysweep.storage import Storage
from raysweep.values import flat, is_number, plain

log = logging.getLogger(__name__)

FOLDER = "tensorboard"
FLUSH_SECONDS = 10.0  # until a result is visible while the sweep runs
TEXT_WIDTH = 500  # of a hyperparameter that is shown as text


class TensorBoard(Observer):
    """Writes each result as scalars, and each trial's configuration as hyperparameters.

    In a folder it writes in place; for an object store it writes to a temporary folder, and uploads a trial's file
    when the trial ends. Files that are missing, since a driver was killed, a disk full or a store down, are written
    again from the journal: these files are only a view of the journal, and never fail a trial. Nothing is kept in
    memory of a trial that has ended, and no file is open between two writes.

    Args:
        storage: the sweep's own folder or prefix.
        metric: the metric shown beside the hyperparameters.
        state: the sweep's state from the journal, with the trials of earlier runs.
    """

    def __init__(self, storage: Storage, metric: str, state: SweepState | None = None) -> None:
        self._storage, self._metric = storage, metric
        trials = state.trials.values() if state else ()
        self._older = {trial.id: trial for trial in trials if trial.results}  # their files may be missing
        self._incomplete = {id for id, trial in self._older.items() if not trial.ended}  # or may lack the end
        self._events: dict[str, _Events] = {}
        self._temporary: Path | None = None
        self._writer = _writer()
        self._flushed = time.monotonic()

    def begin(self) -> None:
        """Writes missing files of trials of earlier runs."""
        self._make_missing(ended=True)

    def turn(self) -> None:
        """Writes the new events now and then."""
        now = time.monotonic()
        if now - self._flushed >= FLUSH_SECONDS:
            self._flushed = now
            for events in list(self._events.values()):
                self._writer.submit(self._write, events)

    def reported(self, trial: TrialRecord, result: Result) -> None:
        """Adds the result's scalars."""
        events = self._current(trial) or self._open(trial, before=result.iteration)
        events.add(result)

    def ended(self, trial: TrialRecord) -> None:
        """Completes the trial's file."""
        if trial.id in self._older and self._current(trial) is None:
            self._open(trial)
        self._finish(trial)

    def close(self) -> None:
        """Writes the remaining events; an interrupted sweep has running trials."""
        for events in list(self._events.values()):
            self._finish(events.trial, complete=False)
        self._writer.shutdown(wait=True)
        self._writer = _writer()
        self._make_missing(ended=False)
        self._writer.shutdown(wait=True)
        if self._temporary is not None:
            temporary.remove(self._temporary)

    @contextlib.contextmanager
    def _optional(self, events: _Events) -> Iterator[None]:
        """If the storage refuses, or TensorBoard fails, the file is dropped, to be written from the journal later."""
        trial = events.trial
        try:
            yield
        except Exception as error:  # in a thread, where nobody else would hear of it
            log.warning("trial %s is not in TensorBoard for now: %s", trial.id, error)
            self._older[trial.id] = trial
            events.refused = True
            with contextlib.suppress(OSError, StorageError):
                self._storage.delete_tree(f"{FOLDER}/{trial.id}")

    def _current(self, trial: TrialRecord) -> _Events | None:
        events = self._events.get(trial.id)
        return None if events is None or events.refused else events

    def _make_missing(self, ended: bool) -> None:
        """Writes missing or incomplete files of trials with earlier results; with `ended`, only of trials that have
        ended.
        """
        if not self._older:
            return
        try:
            existing = {key.split("/")[1] for key in self._storage.list(FOLDER)}
        except StorageError as error:
            log.warning("missing TensorBoard files cannot be determined: %s", error)
            return
        for trial_id, trial in sorted(self._older.items()):
            is_missing = trial_id not in existing or (trial.ended and trial_id in self._incomplete)
            if is_missing and (trial.ended or not ended):
                self._open(trial)
                self._finish(trial)

    def _open(self, trial: TrialRecord, before: float = math.inf) -> _Events:
        """Creates a trial's events, with all results before this iteration, since an existing file may lack them."""
        again = trial.id in self._older or len(trial.results) > 1
        events = self._events[trial.id] = _Events(trial, again)
        for iteration, result in sorted(trial.results.items()):
            if iteration < before:
                events.add(result)
        return events

    def _write(self, events: _Events) -> None:
        with self._optional(events):
            if not events.refused:
                events.write_into(self._folder(events.trial.id))

    def _folder(self, trial_id: str) -> Path:
        in_place = self._storage.local_path(f"{FOLDER}/{trial_id}")
        if in_place is None:
            self._temporary = self._temporary or temporary.make("tensorboard")
            return self._temporary / trial_id
        return in_place

    def _finish(self, trial: TrialRecord, complete: bool = True) -> None:
        events = self._events.pop(trial.id, None)
        if events is None:
            return
        last_result = trial.last_with((self._metric,)) if complete else None
        if last_result is not None:
            events.add_configuration(last_result.config, self._metric)
        self._incomplete.discard(trial.id)
        self._writer.submit(self._write_and_put, events)

    def _write_and_put(self, events: _Events) -> None:
        self._write(events)
        if self._temporary is not None and not events.refused:
            self._put(events, self._temporary / events.trial.id)

    def _put(self, events: _Events, folder: Path) -> None:
        key = f"{FOLDER}/{events.trial.id}"
        with self._optional(events):
            if events.again:
                self._storage.delete_tree(key)
            for file in sorted(folder.iterdir()):
                self._storage.put(f"{key}/{file.name}", file.read_bytes())
        shutil.rmtree(folder, ignore_errors=True)


class _Events:
    """A trial's events. New ones are buffered, so that a file is opened now and then, not for each.

    Args:
        trial: the trial.
        again: whether the trial may have a file already, which these events replace.

    Attributes:
        refused: the storage refused some of them; the file is to be written again from the journal.
    """

    def __init__(self, trial: TrialRecord, again: bool) -> None:
        self.trial, self.again, self.refused = trial, again, False
        self._name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        self._buffer: deque[Callable[[], Any]] = deque()  # functions that create the events, in the writing thread
        self._begun = False
        self._append(lambda: {"file_version": "brain.Event:2"})

    def add(self, result: Result) -> None:
        """Adds the metrics that are numbers."""
        if any(is_number(value) for value in result.metrics.values()):
            self._append(lambda: {"step": result.iteration, "summary": {"value": _scalars(result)}}, result.time)

    def add_configuration(self, config: dict[str, Any], metric: str) -> None:
        """Adds the configuration as hyperparameters, with the metric that they are shown with."""
        self._append(lambda: {"summary": {"value": _hyperparameters(config, metric)}})

    def _append(self, fields: Callable[[], dict[str, Any]], at: float = 0.0) -> None:
        when = at or time.time()
        self._buffer.append(lambda: _library().Event(wall_time=when, **fields()))

    def write_into(self, folder: Path) -> None:
        """Appends the buffered events to the trial's file."""
        if not self._begun and self.again and folder.exists():
            shutil.rmtree(folder)
        if self._buffer:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / self._name).open("ab") as file:
                records = _library().RecordWriter(file)
                while self._buffer:
                    records.write(self._buffer.popleft()().SerializeToString())
        self._begun = True


def _writer() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="tensorboard")


@functools.cache
def _library() -> Any:
    """The parts of `tensorboard` that are used; its own functions for hyperparameters would need TensorFlow."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from tensorboard.summary.writer.record_writer import RecordWriter

    return SimpleNamespace(
        Event=Event, RecordWriter=RecordWriter, HParamsPluginData=HParamsPluginData, metadata=metadata
    )


def _scalars(result: Result) -> list[dict[str, Any]]:
    numbers = {name: value for name, value in result.metrics.items() if is_number(value)}
    return [{"tag": name, "simple_value": value} for name, value in numbers.items()]


# Python's type of a hyperparameter -> TensorBoard's type, and the field for the value.
_KINDS = {
    bool: ("DATA_TYPE_BOOL", "bool_value"),
    float: ("DATA_TYPE_FLOAT64", "number_value"),
    str: ("DATA_TYPE_STRING", "string_value"),
}


def _hyperparameters(config: dict[str, Any], metric: str) -> list[dict[str, Any]]:
    """Summaries for the hparams plugin: the hyperparameters, their values, and that the trial has ended."""
    data, plugin = _library().HParamsPluginData, _library().metadata
    experiment = data(experiment={"metric_infos": [{"name": {"tag": metric}}]})
    start, end = data(session_start_info={}), data(session_end_info={"status": "STATUS_SUCCESS"})
    for key, given in flat(config).items():
        name, value = _text(key), _hyperparameter(given)
        kind, field = _KINDS[type(value)]
        experiment.experiment.hparam_infos.add(name=name, type=kind)
        setattr(start.session_start_info.hparams[name], field, value)
    parts = {plugin.EXPERIMENT_TAG: experiment, plugin.SESSION_START_INFO_TAG: start, plugin.SESSION_END_INFO_TAG: end}
    return [{"tag": tag, "metadata": plugin.create_summary_metadata(part)} for tag, part in parts.items()]


def _hyperparameter(given: Any) -> bool | float | str:
    value = given if isinstance(given, bool | int | float | str) else plain(given)
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        with contextlib.suppress(OverflowError):  # an integer that no float can hold
            return float(value)
    try:
        return _text(str(value)[:TEXT_WIDTH])
    except ValueError:  # an integer with more digits than Python converts to text
        return f"<{type(value).__name__}>"


def _text(text: str) -> str:
    """Replaces lone surrogates, which a protocol buffer does not accept."""
    return text.encode(errors="replace").decode()
