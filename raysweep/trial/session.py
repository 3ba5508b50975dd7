"""What a training function talks to while it runs: `resume`, `resume_folder`, `iterations` and `report`.

The function runs in a thread of the trial's process and is held in `report` until the sweep decides whether the trial
goes on. A step costs one hand-over between two threads, and what is reported has been saved and verified before.
"""

from __future__ import annotations

import contextlib
import os
import platform
import queue
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep import temporary
from raysweep.history import checkpoint as checkpoints
from raysweep.history.checkpoint import Checkpoint
from raysweep.trial.metrics import Metric, filled_in, plain_metrics
from raysweep.trial.run import Run, TrialSpec
from raysweep.values import TIME_TOTAL_S, TRAINING_ITERATION, finite

NOTED_REPORTS = 1000  # at most, in a checkpoint: those since the one before it
MOST_REFUSED = 100  # reports after a stop, by a function that swallows each end: it will not let itself be ended
# Keys of a checkpoint's note. Each of its reports has the iteration, which is a metric only if it is optimised.
HOST, OPTIMISED = "hostname", "optimised"


class Ended(SystemExit):
    """Unwinds a training function that the sweep has stopped; `finally` blocks of the user's code run."""


@dataclass(frozen=True)
class Report:
    """One iteration of a trial, as its process tells the sweep.

    Attributes:
        iteration: its number, from 1.
        metrics: what was reported, and the seconds that it took.
        checkpoint: what holds the state after this iteration, if one was saved.
        restored: what this run of the trial was restored from; with its first report only.
        node: the name of the machine.
        stalled: seconds for which the function waited until the checkpoint was saved and verified.
    """

    iteration: int
    metrics: dict[str, Metric]
    checkpoint: Checkpoint | None = None
    restored: Checkpoint | None = None
    node: str = ""
    stalled: float = 0.0


class Session:
    """One run of a training function: from its start or a checkpoint to its end or a stop.

    Args:
        spec: what all trials share; its function is given to `next`, with the trial's data.
        run: this one.
        state: of the checkpoint that it goes on from, or the folder with its files, if it was loaded already.
        leads: whether what this process reports and saves is the trial's; of a trial's workers only the first does.
    """

    def __init__(self, spec: TrialSpec, run: Run, state: Any = None, leads: bool = True) -> None:
        self.spec, self.run, self._state, self._leads = spec, run, state, leads
        self._spent, self._restored = run.spent, run.start
        self._after = run.start  # the newest checkpoint, and what was reported since
        self._tidy = False  # whether nothing is left of folders that were not completed
        self._noted: deque[dict[str, Any]] = deque(maxlen=NOTED_REPORTS)
        self._mark = time.monotonic()  # since when the iteration runs
        self.iteration = run.start.iteration if run.start else 0
        self.outbox: queue.SimpleQueue[Report | BaseException | None] = queue.SimpleQueue()
        self._go = threading.Semaphore(0)
        self._ending, self._refused = False, 0
        self._over = threading.Event()  # the function has come to its end, or will not
        self._thread: threading.Thread | None = None

    def resume(self) -> Any:
        """The state of the checkpoint that this run starts from, or None."""
        start = self.run.start
        if start and start.folder:
            raise RuntimeError("raysweep.resume(): the checkpoint is a folder: open it with raysweep.resume_folder()")
        state, self._state = self._state, None  # it is the caller's now, and may be large
        return checkpoints.load(self.spec.storage, start) if state is None and start else state

    @contextlib.contextmanager
    def resume_folder(self) -> Iterator[Path | None]:
        """A copy of the folder that this run starts from, or None; it is removed when the context ends."""
        start = self.run.start
        if start is None:
            yield None
            return
        if not start.folder:
            raise RuntimeError("raysweep.resume_folder(): the checkpoint is a state: raysweep.resume() returns it")
        fetched, self._state = self._state, None
        with temporary.folder("resume") as own:
            copy = own / "checkpoint"
            if fetched is not None:
                shutil.move(fetched, copy)
            else:
                checkpoints.load(self.spec.storage, start, lambda: copy)
            yield copy

    @property
    def newest(self) -> Checkpoint | None:
        """The checkpoint that was saved last, or that this run starts from."""
        return self._after

    def iterations(self) -> Iterator[int]:
        """The numbers of the iterations still to do."""
        return iter(range(self.iteration + 1, self.spec.max_iterations + 1))

    def report(self, metrics: dict[str, Any], state: Any = None, folder: str | os.PathLike[str] | None = None) -> None:
        """Saves the state or the folder, hands the metrics to the sweep and waits for its decision.

        A function that is being ended, or reports beyond its last iteration, is ended here once more and saves nothing.
        """
        if self._ending or self.iteration >= self.spec.max_iterations:
            self._refuse()
        if state is not None and folder is not None:
            raise TypeError("raysweep.report(): `state` and `checkpoint` exclude each other: write the state to a file")
        if folder is not None and not isinstance(folder, str | os.PathLike):
            raise TypeError(f"`checkpoint={folder!r}`: must be the path of a folder")
        if not self._leads:
            metrics, state, folder = {}, None, None
        plain, number = plain_metrics(metrics, self.spec.numeric), self.iteration + 1
        now = time.monotonic()
        measured = filled_in(plain, number, now - self._mark, self._spent, self.spec.numeric)
        saved = None if state is None and folder is None else self._save(number, state, folder, measured)
        stalled = time.monotonic() - now if saved else 0.0
        if saved is None:
            self._noted.append({**measured, TRAINING_ITERATION: number})
        # Only now: a save that failed, and whose error the function caught, leaves the iteration to be reported again.
        self.iteration, self._mark = number, now
        self._spent = float(measured[TIME_TOTAL_S])
        restored, self._restored = self._restored, None
        self._hand_over(Report(number, measured, saved, restored, platform.node(), stalled))

    def finish(self) -> None:
        """Ends the function, which said that its report was the last one."""
        self._ending = True
        raise Ended

    def _refuse(self) -> None:
        self._ending, self._refused = True, self._refused + 1
        if self._refused == MOST_REFUSED:  # nobody waits for it any more
            self._over.set()
            self.outbox.put(None)
        raise Ended

    def _hand_over(self, report: Report) -> None:
        began = time.monotonic()
        self.outbox.put(report)
        self._go.acquire()
        self._mark += time.monotonic() - began  # the time of the decision is not the trial's
        if self._ending:
            raise Ended

    def _save(
        self, number: int, state: Any, folder: str | os.PathLike[str] | None, measured: dict[str, Metric]
    ) -> Checkpoint:
        reports = [*self._noted, {**measured, TRAINING_ITERATION: number}]
        note: dict[str, Any] | None = None
        if all(finite(report.get(name)) for report in reports for name in self.spec.finite):
            # A driver that dies may lose the reports: the next one finds them here, see `loop.adopt_results`.
            after = self._after.to_dict() if self._after else None
            note = {"after": after, "reports": reports, "config": self.run.written, HOST: platform.node()}
            note |= {OPTIMISED: list(self.spec.numeric)}
        storage, trial = self.spec.storage, self.run.trial
        if folder is None:
            saved = checkpoints.save(storage, trial, number, state, note)
        else:
            if not self._tidy:
                checkpoints.drop_unfinished(storage, trial)
            self._tidy = False  # until this one is complete
            saved = checkpoints.save_folder(storage, trial, number, Path(folder), note, self._after)
            self._tidy = True
        self._after = saved
        self._noted.clear()
        return saved

    def next(self, function: Callable[[dict[str, Any]], None]) -> Report | BaseException | None:
        """Runs the function up to its next report; None when it returned or was ended, its exception when it raised."""
        if self._thread is None:
            self._mark = time.monotonic()
            name = f"trial-{self.run.trial}"
            self._thread = threading.Thread(target=self._call, args=(function,), name=name, daemon=True)
            self._thread.start()
        else:
            self._go.release()
        return self.outbox.get()

    def returns_within(self, seconds: float) -> bool:
        """Lets a function that has reported its last iteration go on; whether it then returns in so many seconds."""
        self._go.release()
        if not self._over.wait(seconds):
            return False
        outcome = self.outbox.get()
        if outcome is not None:
            self.outbox.put(outcome)  # for `next`
        return outcome is None

    def _call(self, function: Callable[[dict[str, Any]], None]) -> None:
        outcome: BaseException | None = None
        try:
            function(self.run.config)
        except Ended:
            pass
        except BaseException as error:
            outcome = error
        self._over.set()
        self.outbox.put(outcome)

    def end(self, seconds: float) -> bool:
        """Unwinds the function; False if it has not come to its end after so many seconds, or will not."""
        self._ending = True
        self._go.release()
        if self._thread is None:
            return True
        self._over.wait(seconds)
        return self.over

    @property
    def over(self) -> bool:
        """Whether nothing of the function runs any more."""
        if self._thread is not None and self._over.is_set() and self._refused < MOST_REFUSED:
            self._thread.join()
        return self._thread is None or not self._thread.is_alive()


_session: Session | None = None


def enter(session: Session | None) -> None:
    """Makes a session the one that this process's training function talks to."""
    global _session
    _session = session


def _current(caller: str) -> Session:
    if _session is None:
        raise RuntimeError(f"raysweep.{caller}() works inside a trial: run the function with raysweep.run or a job")
    return _session


def spec() -> TrialSpec:
    """What all trials of the sweep have in common."""
    return _current("spec").spec


def resume() -> Any:
    """The `state` of this trial's last checkpoint, or None when it starts from the beginning.

    After an exploit of population based training this is the donor's state. A checkpoint that is damaged or gone is
    passed over for the one before it.
    """
    return _current("resume").resume()


def resume_folder() -> contextlib.AbstractContextManager[Path | None]:
    """The folder that this trial's last checkpoint holds, or None when it starts from the beginning.

    To be used as `with raysweep.resume_folder() as folder:`. It is a copy on this machine, which may be changed, and
    which is removed when the context ends. Otherwise as `resume`, for what `report` got as `checkpoint`.
    """
    return _current("resume_folder").resume_folder()


def iterations() -> Iterator[int]:
    """The numbers of the iterations still to do, from 1 or from the one after the checkpoint.

    The code after a loop over them runs, too: a final upload, a test score. If the trial's process or the driver dies
    in it, it runs once more, with the state of the last checkpoint and no iteration before it.
    """
    return _current("iterations").iterations()


def report(metrics: dict[str, Any], state: Any = None, checkpoint: str | os.PathLike[str] | None = None) -> None:
    """Reports one iteration, and saves `state`, or the files in the folder `checkpoint`, as a verified checkpoint.

    Returns when the sweep lets the trial go on; does not return when it stops the trial: then `finally` blocks run.
    All workers of a trial call it, and wait here for each other; what the first one gives counts.

    Args:
        metrics: name -> number or text. The sweep's metric may be left out now and then, as by a validation every
            second epoch; a trial that ends without any report of it has failed.
        state: any object that can be pickled, from which `resume` continues; None saves nothing.
        checkpoint: a folder instead of a state, from which `resume_folder` continues. When `report` returns it may be
            changed or deleted. Links in it may not lead out of it. A file with the same content as in the checkpoint
            before is not sent to the storage again.

    Raises:
        StorageError: the checkpoint could not be written and verified; the iteration may be reported again.
        TypeError: a metric is neither a number nor text, by name; or there are both a state and a folder.
        ValueError: a metric that is filled in for each report, or that cannot be stored, by name; or a file of the
            folder that cannot be saved, by name.
        RuntimeError: a file of the folder changed while it was saved, by name.
    """
    _current("report").report(metrics, state, checkpoint)
