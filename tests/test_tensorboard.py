"""TensorBoard events, read back with TensorBoard's own reader."""

import errno
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from raysweep import tensorboard
from raysweep.errors import Unavailable
from raysweep.state import SweepState
from raysweep.storage import FolderStorage
from raysweep.tensorboard import TensorBoard

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


def trial(trial_id="00000", **last_result):
    return SimpleNamespace(trial_id=trial_id, config=CONFIG, last_result=last_result)


def result(iteration, **metrics):
    return {**metrics, "training_iteration": iteration, "trial_id": "00000", "pid": 7, "done": False, "config": CONFIG}


def report(board, *values, trial_id="00000"):
    for iteration, value in enumerate(values, start=1):
        board.on_trial_result(0, [], trial(trial_id), result(iteration, loss=value, kind="a", time_total_s=iteration))


def done_putting(board):
    board._puts.submit(int).result()


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


@pytest.mark.parametrize("kind", [FolderStorage, NoPath])
def test_metrics_are_scalars_over_iterations(tmp_path, events, kind):
    board = TensorBoard(kind(str(tmp_path)), "loss")
    report(board, 0.5, 0.25, 0.125)
    report(board, 4.0, trial_id="00001")
    board.on_trial_complete(0, [], trial(loss=0.125))
    board.close()
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
def test_a_trial_that_goes_on_has_all_its_events_once(tmp_path, events, kind):
    killed = TensorBoard(kind(str(tmp_path)), "loss")
    report(killed, 0.5, 0.25)  # and never closed
    board = TensorBoard(kind(str(tmp_path)), "loss", journalled(0.5, 0.25))
    board.setup()
    board.on_trial_result(0, [], trial(), result(3, loss=0.125))
    board.on_trial_complete(0, [], trial(loss=0.125))
    board.close()
    assert events()["loss"] == [(1, 0.5), (2, 0.25), (3, 0.125)]
    killed._writers["00000"].close()


def test_a_trial_that_goes_back_has_its_newest_events(tmp_path, events):
    board = TensorBoard(NoPath(str(tmp_path)), "loss", journalled(0.5, 0.25, 0.75))
    board.on_trial_result(0, [], trial(), result(2, loss=0.375))
    board.close()
    assert events()["loss"] == [(1, 0.5), (2, 0.375)]


@pytest.mark.parametrize("ended", [True, False])
def test_a_trial_whose_file_was_not_put_has_one_after_a_resume(tmp_path, events, ended):
    board = TensorBoard(NoPath(str(tmp_path)), "loss", journalled(0.5, 0.25, ended=ended))
    board.setup()
    done_putting(board)
    assert (tmp_path / "tensorboard" / "00000").exists() == ended
    board.close()
    assert events()["loss"] == [(1, 0.5), (2, 0.25)]
    assert [step for step, _ in events()["loss"]] == [1, 2]


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
def test_what_was_refused_fails_no_trial_and_is_made_from_the_journal(tmp_path, events, kind):
    storage = kind(str(tmp_path))
    board = TensorBoard(storage, "loss", state := journalled())
    board.setup()
    for iteration, loss in ((1, 0.5), (2, 0.25)):  # the journal has them first
        state.apply(journalled(*[0.5, 0.25][:iteration]).events[-1])
        board.on_trial_result(0, [], trial(), result(iteration, loss=loss))
    board.on_trial_complete(0, [], trial(loss=0.25))
    done_putting(board)
    assert not (tmp_path / "tensorboard").exists()
    storage.refuses = False
    board.close()
    assert events()["loss"] == [(1, 0.5), (2, 0.25)]


def test_a_result_is_seen_while_the_sweep_runs(tmp_path, events, monkeypatch):
    monkeypatch.setattr(tensorboard, "FLUSH_SECONDS", 0.01)
    board = TensorBoard(FolderStorage(str(tmp_path)), "loss")
    board.setup()
    report(board, 0.5)
    deadline = time.monotonic() + 10
    while "loss" not in events():
        assert time.monotonic() < deadline
    board.close()


def test_what_is_no_number_is_left_out(tmp_path, events):
    board = TensorBoard(FolderStorage(str(tmp_path)), "loss")
    report(board, float("nan"), 0.25, float("inf"))
    board.close()
    assert events()["loss"] == [(2, 0.25)]


def test_the_configuration_is_hyperparameters(tmp_path, events):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    board = TensorBoard(FolderStorage(str(tmp_path)), "loss")
    report(board, 0.5)
    board.on_trial_complete(0, [], trial(loss=0.5))
    events()
    content = events.plugins["_hparams_/session_start_info"].plugin_data.content
    shown = HParamsPluginData.FromString(content).session_start_info.hparams
    assert (shown["lr"].number_value, shown["head/act"].string_value) == (0.01, "relu")
    assert shown["layers"].string_value == "[32, 64]"


def test_a_failed_trial_keeps_its_events(tmp_path, events):
    board = TensorBoard(NoPath(str(tmp_path)), "loss")
    report(board, 0.5)
    board.on_trial_error(0, [], trial())
    board.close()
    assert events()["loss"] == [(1, 0.5)]


def test_a_trial_without_a_result_leaves_nothing(tmp_path):
    board = TensorBoard(FolderStorage(str(tmp_path)), "loss")
    board.on_trial_complete(0, [], trial())
    board.close()
    assert list(tmp_path.iterdir()) == []


def test_an_object_stores_temporary_folder_is_removed(tmp_path):
    board = TensorBoard(NoPath(str(tmp_path)), "loss")
    report(board, 0.5)
    temporary = board._temporary
    assert list(temporary.iterdir())
    board.close()
    assert not temporary.exists()


def test_torch_is_not_imported_for_it(tmp_path):
    # It takes seconds, and tensorboardX imports it wherever it can.
    script = f"""
import sys
from types import SimpleNamespace
from raysweep.state import SweepState
from raysweep.storage import FolderStorage
from raysweep.tensorboard import TensorBoard
before = "torch" in sys.modules
board = TensorBoard(FolderStorage({str(tmp_path)!r}), "loss")
trial = SimpleNamespace(trial_id="0", config={{"lr": 1.0}}, last_result={{"loss": 1.0}})
board.on_trial_result(0, [], trial, {{"loss": 1.0, "training_iteration": 1}})
board.on_trial_complete(0, [], trial)
assert not before
assert "torch" not in sys.modules
"""
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "tensorboard" / "0").iterdir())
