"""What a cluster can ever give, with and without an autoscaler."""

from __future__ import annotations

import pytest
import ray

from raysweep import capacity

ALIVE = [
    {"Alive": True, "Resources": {"CPU": 2.0}},
    {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
]


@pytest.fixture
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv(capacity.NODES, raising=False)
    monkeypatch.setattr(ray, "nodes", lambda: ALIVE)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    return monkeypatch


def test_without_an_autoscaler_it_is_what_is_there(two_cpus: pytest.MonkeyPatch) -> None:
    assert (capacity.largest_node("CPU"), capacity.largest_node("GPU")) == (2, 0)
    assert (capacity.total("CPU"), capacity.total("GPU")) == (2, 0)


def test_nodes_that_may_come_count_and_groups_without_any_do_not(two_cpus: pytest.MonkeyPatch) -> None:
    two_cpus.setenv(
        capacity.NODES, '[{"count": 3, "CPU": 4}, {"count": 2, "CPU": 8, "GPU": 1}, {"count": 0, "GPU": 8}]'
    )
    assert (capacity.largest_node("CPU"), capacity.largest_node("GPU")) == (8, 1)
    assert (capacity.total("CPU"), capacity.total("GPU")) == (3 * 4 + 2 * 8, 2)


def test_what_is_there_counts_where_it_is_more(two_cpus: pytest.MonkeyPatch) -> None:
    two_cpus.setenv(capacity.NODES, '[{"count": 1, "CPU": 1}]')
    assert (capacity.largest_node("CPU"), capacity.total("CPU")) == (2, 2)
