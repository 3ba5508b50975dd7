"""How the workers of a trial find each other: the variables of a run, its port, and a group that a run has left."""

import os
import socket

import pytest
import ray
import torch
from torch import distributed

import raysweep
from raysweep.storage import FolderStorage
from raysweep.trial import workers
from raysweep.trial.actor import TrialActor
from raysweep.trial.run import Run, Seat, TrialSpec
from raysweep.trial.workers import Worker

SEAT = Seat(rank=1, world_size=4, local_rank=1, local_world_size=2, node_rank=0)
OF_SEAT = {
    "RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "NODE_RANK": "0",
    "MASTER_ADDR": "10.0.0.7",
    "MASTER_PORT": "4711",
}
NAMES = (*OF_SEAT, "CUDA_VISIBLE_DEVICES", "GLOO_SOCKET_IFNAME")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")


def variables():
    return {name: os.environ[name] for name in NAMES if name in os.environ}


def test_a_run_has_torchruns_variables_and_the_next_one_none():
    worker = Worker()
    worker.take(SEAT, ("10.0.0.7", 4711))
    assert variables() == OF_SEAT | {"GLOO_SOCKET_IFNAME": workers._interface("127.0.0.1")}
    worker.leave()
    assert variables() == {}


def test_what_was_set_before_is_there_again(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    worker = Worker()
    worker.take(Seat(1, 2, 1, 2, 0, gpus=("2", "3")), ("10.0.0.7", 4711))
    assert variables()["CUDA_VISIBLE_DEVICES"] == "2,3", "cuda:LOCAL_RANK is the worker's own"
    assert variables()["GLOO_SOCKET_IFNAME"] == "eth7"
    worker.leave()
    assert variables() == {"CUDA_VISIBLE_DEVICES": "3", "GLOO_SOCKET_IFNAME": "eth7"}


def test_workers_that_share_a_gpu_see_it_once():
    worker = Worker()
    worker.take(Seat(0, 2, 0, 2, 0, gpus=("0", "0")), ("10.0.0.7", 4711))
    assert variables()["CUDA_VISIBLE_DEVICES"] == "0"
    worker.leave()


def is_free(address, port):
    """Whether a program that does not reuse addresses gets it."""
    with socket.socket() as other:
        try:
            other.bind((address, port))
        except OSError:
            return False
        return True


def test_a_port_is_kept_for_torch_until_the_run_is_over():
    worker = Worker()
    address, port = worker.meeting_point()
    assert not is_free(address, port)
    assert not is_free("127.0.0.1", port), "torch listens on all addresses"
    store = distributed.TCPStore(address, port, world_size=1, is_master=True)
    store.set("a", "b")
    del store
    assert worker.meeting_point()[1] != port, "the next run has another one"
    worker.leave()
    assert is_free(address, port)


def test_a_group_that_a_run_has_left_is_not_in_the_way_of_the_next(tmp_path):
    """Nor is it one of a process that has several runs with one worker each."""

    def train(config):
        with socket.socket() as port:
            port.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{port.getsockname()[1]}"
        distributed.init_process_group("gloo", init_method=address, rank=0, world_size=1)
        total = torch.ones(1)
        distributed.all_reduce(total)
        raysweep.report({"loss": float(total)})

    actor = TrialActor()
    actor.prepare(TrialSpec(train, FolderStorage(str(tmp_path)), 1))
    try:
        for trial in ("00000", "00001"):
            assert actor.start(Run(trial, {}, {}), []).report.metrics["loss"] == 1.0
            assert distributed.is_initialized()
    finally:
        Worker().forget_group()
    assert not distributed.is_initialized()


def test_only_the_first_worker_saves_and_the_metrics_of_the_others_do_not_count(tmp_path):
    def train(config):
        raysweep.report({"loss": float("nan") if os.environ["RANK"] == "1" else 1.0}, state=1)

    place = FolderStorage(str(tmp_path))
    for rank, metrics, saved in ((0, ["loss"], True), (1, [], False)):
        actor = TrialActor()
        actor.prepare(TrialSpec(train, place, 2, numeric=("loss",), finite=("loss",)))
        report = actor.start(Run(f"0000{rank}", {}, {}), [], Seat(rank, 2, rank, 2, 0), ("127.0.0.1", 4711))
        actor.end(5)
        assert [name for name in report.metrics if "time" not in name] == metrics
        assert (report.checkpoint is not None) is saved
    assert {key.split("/")[1] for key in place.list("checkpoints")} == {"00000"}
