"""A sweep in the formats of other viewers, in a folder of this machine, made from its journal and kept up to date.

From the journal, since that has everything: an object store gets TensorBoard's file of a trial only when the trial has
ended, and optuna.log when the sweep has.
"""

from __future__ import annotations

from pathlib import Path

from raysweep.history.optuna_export import StudyLog
from raysweep.history.results import SweepResults
from raysweep.history.segments import Event
from raysweep.loop.tensorboard import FOLDER, TensorBoard
from raysweep.spec import described
from raysweep.storage import FolderStorage


class EventFiles:
    """A `Viewer` that writes TensorBoard's files: each trial's, while it runs, in `tensorboard/` of a folder.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self._storage = FolderStorage(str(folder))
        self._board: TensorBoard | None = None

    def anew(self, sweep: SweepResults) -> None:
        """Begins again."""
        self.close()
        self._storage.delete_tree(FOLDER)
        self._state, self._board = sweep.state, TensorBoard(self._storage, sweep.objective.metrics[0])

    def happened(self, event: Event) -> None:
        """Adds a result, or completes a trial's file."""
        assert self._board is not None
        trial = self._state.trials.get(event.get("trial", ""))
        if trial is not None and event["type"] == "result" and trial.last is not None:
            self._board.reported(trial, trial.last)
        elif trial is not None and event["type"] == "complete":
            self._board.ended(trial)

    def write(self) -> None:
        """Has the results of running trials written now and then, on a thread."""
        if self._board is not None:
            self._board.turn()

    def close(self) -> None:
        """Writes what is left."""
        if self._board is not None:
            self._board.close()


class StudyFile:
    """An Optuna study of the trials that have ended, in a file that only grows.

    A trial that is tried again after its end stays as it had ended.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log: StudyLog | None = None

    def write(self, sweep: SweepResults) -> None:
        """Adds the trials that have ended meanwhile."""
        self._log = self._log or StudyLog(sweep, described.domains(sweep.spec.get("space", {})))
        with self._path.open("ab") as file:
            file.write(self._log.grow(sweep))
