"""What a cluster can ever give, with and without an autoscaler."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from raysweep import env
from raysweep.driver import capacity

ALIVE = [
    {"Alive": True, "Resources": {"CPU": 2.0}},
    {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
]
MIXED = '[{"count": 3, "CPU": 4}, {"count": 2, "CPU": 2, "GPU": 1}, {"count": 0, "GPU": 8}]'


@pytest.fixture
def two_cpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.delenv(env.RAYSWEEP_NODES, raising=False)
    monkeypatch.setattr(capacity, "FILE", tmp_path / "nodes")
    monkeypatch.setattr(ray, "nodes", lambda: ALIVE)
    return monkeypatch


def test_without_an_autoscaler_it_is_the_current_size(two_cpus: pytest.MonkeyPatch) -> None:
    assert (capacity.largest_node("CPU"), capacity.largest_node("GPU")) == (2, 0)
    assert (capacity.max_trials(1, 0), capacity.max_trials(0.5, 0), capacity.max_trials(1, 1)) == (2, 4, 0)
    assert capacity.groups() == []


def test_nodes_that_may_be_added_count_and_empty_groups_do_not(two_cpus: pytest.MonkeyPatch) -> None:
    two_cpus.setenv(env.RAYSWEEP_NODES, MIXED)
    assert (capacity.largest_node("CPU"), capacity.largest_node("GPU")) == (4, 1)
    assert capacity.describe_nodes() == "CPU 2 | CPU 4 | CPU 2, GPU 1"


@pytest.mark.parametrize(
    ("cpus", "gpus", "there"),
    [(4, 0, True), (4, 1, False), (2, 1, True), (1, 0.2, True), (0, 1, True), (0, 2, False), (5, 0, False)],
)
def test_one_node_must_have_all_resources_of_a_trial(
    two_cpus: pytest.MonkeyPatch, cpus: float, gpus: float, there: bool
) -> None:
    two_cpus.setenv(env.RAYSWEEP_NODES, MIXED)
    assert capacity.fits_on_a_node(cpus, gpus) is there


def test_trials_without_gpus_get_no_nodes_with_gpus_unless_there_are_no_others(two_cpus: pytest.MonkeyPatch) -> None:
    two_cpus.setenv(env.RAYSWEEP_NODES, MIXED)
    assert capacity.max_trials(1, 0) == 3 * 4
    assert capacity.max_trials(1, 0.5) == 2 * 2
    assert capacity.max_trials(0.2, 0.2) == 2 * 5
    two_cpus.setenv(env.RAYSWEEP_NODES, '[{"count": 2, "CPU": 8, "GPU": 1}]')
    assert capacity.max_trials(1, 0) == 16


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers", "trials"), [(1, 0, 5, 2), (4, 0, 4, 0), (4, 0, 3, 1), (1, 1, 2, 1), (1, 1, 3, 0)]
)
def test_the_workers_of_a_trial_may_be_on_several_nodes(
    two_cpus: pytest.MonkeyPatch, cpus: float, gpus: float, workers: int, trials: int
) -> None:
    two_cpus.setenv(env.RAYSWEEP_NODES, MIXED)
    assert capacity.max_trials(cpus, gpus, workers) == trials


@pytest.mark.parametrize(
    ("workers", "cpus", "gpus"), [(1, 4.0, 1.0), (2, 4.0, 1.0), (3, 4.0, 0.5), (4, 2.0, 0.5), (7, 1.0, 0.25)]
)
def test_a_share_grows_as_far_as_all_workers_of_a_trial_find_room(
    two_cpus: pytest.MonkeyPatch, workers: int, cpus: float, gpus: float
) -> None:
    two_cpus.setenv(env.RAYSWEEP_NODES, MIXED)
    assert (capacity.largest_share("CPU", workers), capacity.largest_share("GPU", workers)) == (cpus, gpus)


def test_there_is_no_share_of_what_no_node_has(two_cpus: pytest.MonkeyPatch) -> None:
    assert capacity.largest_share("GPU", 2) == 0.0


def test_shares_that_make_one_are_all_placed(two_cpus: pytest.MonkeyPatch) -> None:
    two_cpus.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 0.6}}])
    assert capacity.max_trials(1, 0.2) == 3


def test_current_nodes_count_if_they_are_more(two_cpus: pytest.MonkeyPatch) -> None:
    two_cpus.setenv(env.RAYSWEEP_NODES, '[{"count": 1, "CPU": 1}]')
    assert (capacity.largest_node("CPU"), capacity.max_trials(1, 0)) == (2, 2)


def test_the_file_follows_a_change_that_the_environment_does_not(two_cpus: pytest.MonkeyPatch) -> None:
    two_cpus.setenv(env.RAYSWEEP_NODES, '[{"count": 3, "CPU": 1}]')
    capacity.FILE.write_text('[{"count": 5, "CPU": 1}]')
    assert capacity.max_trials(1, 0) == 5


def test_the_nodes_that_have_room_are_told_one_by_one(two_cpus: pytest.MonkeyPatch) -> None:
    assert capacity.rooms(1, 0) == [2]
    assert capacity.rooms(3, 0) == []
    two_cpus.setenv(env.RAYSWEEP_NODES, '[{"count": 2, "CPU": 4}, {"count": 1, "CPU": 1}]')
    assert sorted(capacity.rooms(2, 0)) == [2, 2], "the small one has room for none"
