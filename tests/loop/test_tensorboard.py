"""TensorBoard events, read back with TensorBoard's own reader."""

import errno
import math
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from raysweep import temporary
from raysweep.errors import Unavailable
from raysweep.history.sweep_state import SweepState
from raysweep.loop import tensorboard
from raysweep.loop.tensorboard import TensorBoard
from raysweep.storage import FolderStorage

CONFIG = {"lr": 0.01, "layers": [32, 64], "head": {"act": "relu"}}


class NoPath(FolderStorage):
    """A folder that behaves as an object store: it has no path to write in place."""

    def put(self, key, data):
        FolderStorage(self.url).put(key, data)

    def get(self, key):
        return FolderStorage(self.url).get(key)

    def list(self, prefix=""):
        return FolderStorage(self.url).list(prefix)

    def delete_tree(self, prefix):
        FolderStorage(self.url).delete_tree(prefix)

    def local_path(self, key):
        return None


def written(board):
    """Waits for the thread that writes."""
    board._writer.submit(int).result()


class Sweep:
    """A sweep that updates its state, then notifies TensorBoard, as the loop does.

    Args:
        storage: the sweep's own folder.
        state: what the journal has of earlier runs.
    """

    def __init__(self, storage, state=None):
        self.state = state or SweepState()
        self.board = TensorBoard(storage, "loss", self.state)

    def event(self, type, trial_id, **fields):
        self.state.apply({"seq": self.state.seq + 1, "type": type, "trial": trial_id, **fields})
        return self.state.trials[trial_id]

    def record(self, trial_id):
        known = self.state.trials.get(trial_id)
        return known or self.event("suggest", trial_id, config=CONFIG)

    def result(self, iteration, trial_id="00000", changed=None, **metrics):
        self.record(trial_id)
        more = {"config": changed} if changed else {}
        fields = {"iteration": iteration, "metrics": metrics, "checkpoint": None, "node": "", **more}
        record = self.event("result", trial_id, **fields)
        self.board.reported(record, record.last)

    def report(self, *values, trial_id="00000"):
        for iteration, value in enumerate(values, start=1):
            self.result(iteration, trial_id, loss=value, kind="a", time_total_s=iteration)

    def end(self, trial_id="00000", status="finished"):
        self.record(trial_id)
        self.board.ended(self.event("complete", trial_id, status=status))
        written(self.board)

    def turn(self):
        self.board.turn()
        written(self.board)


@pytest.fixture
def events(tmp_path):
    """tag -> [(step, value)] of a trial's scalars."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    def read(trial_id="00000"):
        found = EventAccumulator(str(tmp_path / "tensorboard" / trial_id)).Reload()
        read.plugins = found.summary_metadata
        scalars = {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
        tensors = {
            tag: [(e.step, make_ndarray(e.tensor_proto).item()) for e in found.Tensors(tag)]
            for tag in found.Tags()["tensors"]
            if not tag.startswith("_hparams_")
        }
        return scalars | tensors

    return read


@pytest.fixture
def flushing(monkeypatch):
    """Each turn writes what is held back."""
    monkeypatch.setattr(tensorboard, "FLUSH_SECONDS", 0.0)


@pytest.mark.parametrize("kind", [FolderStorage, NoPath])
def test_metrics_are_scalars_over_iterations(tmp_path, events, kind):
    sweep = Sweep(kind(str(tmp_path)))
    sweep.report(0.5, 0.25, 0.125)
    sweep.report(4.0, trial_id="00001")
    sweep.end()
    sweep.board.close()
    assert events() == {
        "loss": [(1, 0.5), (2, 0.25), (3, 0.125)],
        "time_total_s": [(1, 1.0), (2, 2.0), (3, 3.0)],
    }
    assert events("00001")["loss"] == [(1, 4.0)]


def journalled(*losses, ended=False):
    """A sweep of which the journal has these results of trial 00000."""
    events = [{"type": "suggest", "trial": "00000", "config": CONFIG}]
    events += [
        {"type": "result", "trial": "00000", "iteration": n, "metrics": {"loss": loss}, "checkpoint": None, "node": ""}
        for n, loss in enumerate(losses, start=1)
    ]
    events += [{"type": "complete", "trial": "00000", "status": "finished"}] if ended else []
    return SweepState({**event, "seq": n} for n, event in enumerate(events, start=1))


@pytest.mark.parametrize("kind", [FolderStorage, NoPath])
def test_a_trial_that_goes_on_has_all_its_events_once(tmp_path, events, flushing, kind):
    killed = Sweep(kind(str(tmp_path)))
    killed.report(0.5, 0.25)
    killed.turn()  # and never closed
    sweep = Sweep(kind(str(tmp_path)), journalled(0.5, 0.25))
    sweep.board.begin()
    sweep.result(3, loss=0.125)
    sweep.end()
    sweep.board.close()
    assert events()["loss"] == [(1, 0.5), (2, 0.25), (3, 0.125)]


def test_a_trial_that_goes_back_has_its_newest_events(tmp_path, events):
    sweep = Sweep(NoPath(str(tmp_path)), journalled(0.5, 0.25, 0.75))
    sweep.result(2, loss=0.375)
    sweep.board.close()
    assert events()["loss"] == [(1, 0.5), (2, 0.375)]


@pytest.mark.parametrize("ended", [True, False])
def test_a_trial_whose_file_was_not_uploaded_has_one_after_a_resume(tmp_path, events, ended):
    board = Sweep(NoPath(str(tmp_path)), journalled(0.5, 0.25, ended=ended)).board
    board.begin()
    written(board)
    assert (tmp_path / "tensorboard" / "00000").exists() == ended
    board.close()
    assert events()["loss"] == [(1, 0.5), (2, 0.25)]
    assert [step for step, _ in events()["loss"]] == [1, 2]


@pytest.mark.parametrize("kind", [FolderStorage, NoPath])
def test_an_earlier_trial_that_ends_without_another_report_has_all_its_events(tmp_path, events, flushing, kind):
    killed = Sweep(kind(str(tmp_path)))
    killed.report(0.5)
    killed.turn()
    killed.report(0.5, 0.25)  # of which the second was held back
    sweep = Sweep(kind(str(tmp_path)), journalled(0.5, 0.25))
    sweep.board.begin()
    sweep.end(status="failed")
    assert events()["loss"] == [(1, 0.5), (2, 0.25)]
    assert "_hparams_/session_start_info" in events.plugins
    sweep.board.close()


def test_a_trial_that_a_resume_finds_ended_is_written_anew(tmp_path, events, flushing):
    killed = Sweep(FolderStorage(str(tmp_path)))
    killed.report(0.5)
    killed.turn()
    sweep = Sweep(FolderStorage(str(tmp_path)), journalled(0.5, 0.25))
    sweep.event("complete", "00000", status="stopped")  # its end was decided: observers are not notified
    sweep.board.begin()
    written(sweep.board)
    assert events()["loss"] == [(1, 0.5), (2, 0.25)]


class Full(FolderStorage):
    """A disk that is full, or a store that is down, until it is mended."""

    refuses = True

    def local_path(self, key):
        if self.refuses:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().local_path(key)


class Down(NoPath):
    refuses = True

    def put(self, key, data):
        if self.refuses:
            raise Unavailable("the store is down")
        super().put(key, data)


@pytest.mark.parametrize("kind", [Full, Down])
def test_a_refused_write_fails_no_trial_and_is_repeated_from_the_journal(tmp_path, events, flushing, kind):
    storage = kind(str(tmp_path))
    sweep = Sweep(storage)
    sweep.board.begin()
    sweep.result(1, loss=0.5)
    sweep.turn()
    sweep.result(2, loss=0.25)
    sweep.end()
    assert not (tmp_path / "tensorboard").exists()
    storage.refuses = False
    sweep.board.close()
    assert events()["loss"] == [(1, 0.5), (2, 0.25)]


def test_a_running_trials_file_is_made_again_when_the_disk_has_room(tmp_path, events, flushing):
    storage = Full(str(tmp_path))
    sweep = Sweep(storage)
    sweep.result(1, loss=0.5)
    sweep.turn()
    storage.refuses = False
    sweep.result(2, loss=0.25)
    sweep.turn()
    assert events()["loss"] == [(1, 0.5), (2, 0.25)]
    sweep.board.close()


def test_a_result_is_seen_while_the_sweep_runs(tmp_path, events, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(tensorboard.time, "monotonic", lambda: now[0])
    sweep = Sweep(FolderStorage(str(tmp_path)))
    sweep.board.begin()
    sweep.report(0.5)
    now[0] += tensorboard.FLUSH_SECONDS
    sweep.turn()
    assert events()["loss"] == [(1, 0.5)]
    sweep.report(0.5, 0.25)
    sweep.turn()
    assert events()["loss"] == [(1, 0.5)], "not each turn writes"
    sweep.board.close()


def test_the_loop_does_not_wait_for_a_slow_disk(tmp_path, events, monkeypatch):
    real, free = FolderStorage.local_path, threading.Event()
    monkeypatch.setattr(FolderStorage, "local_path", lambda storage, key: free.wait() and real(storage, key))
    sweep = Sweep(FolderStorage(str(tmp_path)))
    sweep.report(0.5, 0.25)
    record = sweep.event("complete", "00000", status="finished")
    sweep.board.ended(record)
    assert list(tmp_path.iterdir()) == []
    free.set()
    sweep.board.close()
    assert events()["loss"] == [(1, 0.5), (2, 0.25)]


def test_values_that_are_not_numbers_are_left_out(tmp_path, events):
    sweep = Sweep(FolderStorage(str(tmp_path)))
    sweep.report(math.nan, 0.25, math.inf)
    sweep.board.close()
    assert events()["loss"] == [(2, 0.25)]


def test_odd_numbers_are_scalars_too(tmp_path, events):
    sweep = Sweep(FolderStorage(str(tmp_path)))
    sweep.result(300, **{"loss": 1e300, "val loss/é": -1e300, "/top@1": True, "seen": 2**70, "count": np.float64(3.0)})
    sweep.end()
    inf = math.inf
    assert events() == {
        "loss": [(300, inf)],
        "val loss/é": [(300, -inf)],
        "/top@1": [(300, 1.0)],
        "seen": [(300, 2.0**70)],
        "count": [(300, 3.0)],
    }


def session(events, tag="session_start_info"):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events()
    content = events.plugins[f"_hparams_/{tag}"].plugin_data.content
    return getattr(HParamsPluginData.FromString(content), tag)


def test_the_configuration_is_hyperparameters(tmp_path, events):
    sweep = Sweep(FolderStorage(str(tmp_path)))
    sweep.report(0.5)
    sweep.end()
    shown = session(events).hparams
    assert (shown["lr"].number_value, shown["head/act"].string_value) == (0.01, "relu")
    assert shown["layers"].string_value == "[32, 64]"
    experiment = session(events, "experiment")
    assert [(info.name, info.type) for info in experiment.hparam_infos] == [("lr", 3), ("layers", 1), ("head/act", 1)]
    assert [info.name.tag for info in experiment.metric_infos] == ["loss"]
    assert session(events, "session_end_info").status == 1


def test_odd_values_are_hyperparameters(tmp_path, events):
    odd = {"layers": np.int64(3), "flag": False, "none": None, "many": "x" * 10**6, "huge": 10**400, "digits": 10**5000}
    odd |= {"half \ud800": "a pair \udfff"}
    sweep = Sweep(FolderStorage(str(tmp_path)))
    sweep.result(1, changed=odd, loss=0.5)
    sweep.end()
    shown = session(events).hparams
    assert (shown["layers"].number_value, shown["flag"].bool_value, shown["none"].string_value) == (3.0, False, "None")
    assert shown["flag"].WhichOneof("kind") == "bool_value"
    assert {len(shown["many"].string_value), len(shown["huge"].string_value)} == {tensorboard.TEXT_WIDTH, 401}
    assert shown["digits"].string_value == "<int>"
    assert shown["half ?"].string_value == "a pair ?"


def test_the_hyperparameters_are_those_of_the_newest_result_with_the_metric(tmp_path, events):
    sweep = Sweep(FolderStorage(str(tmp_path)))
    sweep.result(1, loss=0.5)
    sweep.result(2, loss=0.25, changed={"lr": 0.5})
    sweep.result(3, accuracy=0.9, changed={"lr": 0.75})  # a validation every second iteration
    sweep.end()
    assert session(events).hparams["lr"].number_value == 0.5
    assert events()["accuracy"] == [(3, pytest.approx(0.9))]


def test_tensorboards_own_messages_read_each_record(tmp_path):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    sweep = Sweep(FolderStorage(str(tmp_path)))
    sweep.report(0.5, 0.25)
    sweep.end()
    [file] = (tmp_path / "tensorboard" / "00000").iterdir()
    assert file.name.startswith("events.out.tfevents.")
    first, *others = EventFileLoader(str(file)).Load()  # which refuses a wrong checksum
    assert first.file_version == "brain.Event:2"
    assert [event.step for event in others] == [1, 2, 0]
    assert all(event.wall_time >= first.wall_time for event in others)


def test_a_failed_trial_keeps_its_events(tmp_path, events):
    sweep = Sweep(NoPath(str(tmp_path)))
    sweep.report(0.5)
    sweep.end(status="failed")
    sweep.board.close()
    assert events()["loss"] == [(1, 0.5)]


def test_a_trial_without_a_result_leaves_nothing(tmp_path):
    sweep = Sweep(FolderStorage(str(tmp_path)))
    sweep.end()
    sweep.board.close()
    assert list(tmp_path.iterdir()) == []


def test_an_object_stores_temporary_folder_is_removed(tmp_path):
    sweep = Sweep(NoPath(str(tmp_path)))
    sweep.report(0.5)
    sweep.end()
    folder = sweep.board._temporary
    assert [path.name for path in folder.iterdir()] == [temporary.OWNER], "what was put is there no more"
    sweep.board.close()
    assert not folder.exists()


def test_nothing_is_kept_of_a_trial_that_has_ended(tmp_path, monkeypatch):
    opened = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *args: opened.append(path) or real(path, *args))
    sweep = Sweep(FolderStorage(str(tmp_path)))
    for n in range(20):
        sweep.report(0.5, 0.25, 0.125, trial_id=f"{n:05d}")
        sweep.end(f"{n:05d}")
    assert (sweep.board._events, sweep.board._older) == ({}, {})
    assert len(opened) == 20, "a file is opened once, whatever the trial reports"
    sweep.board.close()


def test_nothing_is_imported_before_the_first_result_and_torch_never(tmp_path):
    script = f"""
import sys
from raysweep.history.sweep_state import SweepState
from raysweep.storage import FolderStorage
from raysweep.loop.tensorboard import TensorBoard
state = SweepState([{{"seq": 1, "type": "suggest", "trial": "0", "config": {{"lr": 1.0}}}}])
board = TensorBoard(FolderStorage({str(tmp_path)!r}), "loss", state)
board.begin()
result = {{"iteration": 1, "metrics": {{"loss": 1.0}}, "checkpoint": None, "node": ""}}
state.apply({{"seq": 2, "type": "result", "trial": "0", **result}})
trial = state.trials["0"]
assert "tensorboard" not in sys.modules
board.reported(trial, trial.last)
board.ended(trial)
board.close()
assert not {{"torch", "tensorflow", "tensorboardX"}} & set(sys.modules)
assert None not in sys.modules.values()
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "tensorboard" / "0").iterdir())


def test_a_bug_of_tensorboard_is_said_and_ends_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tensorboard, "_scalars", lambda result: [{"no": "such field"}])
    sweep = Sweep(FolderStorage(str(tmp_path)))
    sweep.report(0.5)
    sweep.end()
    sweep.board.close()
    assert "trial 00000 is not in TensorBoard for now: " in caplog.text


def test_two_names_are_two_tags(tmp_path, events):
    sweep = Sweep(FolderStorage(str(tmp_path)))
    values = {"val loss": 1.0, "val_loss": 2.0, "/loss": 3.0, "loss": 4.0, "two\nlines": 5.0, "x" * 10_000: 6.0}
    sweep.result(1, **values)
    sweep.end()
    sweep.board.close()
    assert {name: events()[name] for name in values} == {name: [(1, value)] for name, value in values.items()}
