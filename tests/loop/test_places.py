"""What is said of the use of a sweep's places, and where none is requested."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from raysweep.loop import places
from raysweep.loop.executor import Share
from raysweep.loop.places import FullNodes, Occupancy, Place, Stage, nodes_at, reserve


def place(stage: Stage, *nodes: str) -> Place:
    return Place(Share(1.0), None, SimpleNamespace(nodes=set(nodes)), stage)


def test_the_use_of_places_counts_those_that_are_there() -> None:
    places = [
        place(Stage.STARTING), place(Stage.IDLE, "a"), place(Stage.BUSY, "a"), place(Stage.BUSY, "b", "c"),
        place(Stage.ENDING, "b"), place(Stage.LEAVING, "d"),
    ]  # fmt: skip
    assert Occupancy.of(places) == Occupancy(places=4, busy=3, starting=1, nodes=3)
    assert Occupancy.of([]) == Occupancy(0, 0, 0, 0)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Three nodes of Ray's, the first of which runs no trials."""
    found = {
        name: {"NodeID": name, "Alive": True, "NodeManagerAddress": f"10.0.0.{cpus:g}", "Resources": {"CPU": cpus}}
        for name, cpus in (("head", 0.0), ("a", 2.0), ("b", 4.0))
    }
    monkeypatch.setattr(places.ray, "nodes", lambda: list(found.values()))
    return found


@pytest.mark.usefixtures("nodes")
def test_a_full_node_is_avoided_as_long_as_the_others_have_room() -> None:
    full = FullNodes()
    assert full.avoided(Share(1.0)) == set()
    full.add(["a"])
    assert full.avoided(Share(1.0)) == full.avoided(Share(2.0, workers=2)) == {"a"}
    assert full.avoided(Share(2.0, workers=3)) == set()
    assert full.avoided(Share(1.0, gpus=1.0)) == set()
    full.add(["b"])
    assert full.avoided(Share(1.0)) == set(), "then each is as good as the other"


def test_a_node_that_is_gone_has_no_room(nodes: dict[str, dict[str, Any]]) -> None:
    full = FullNodes()
    full.add(["a"])
    nodes["b"]["Alive"] = False
    assert full.avoided(Share(1.0)) == set()


@pytest.mark.usefixtures("nodes")
def test_after_a_while_a_full_node_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    full, now = FullNodes(), [1000.0]
    monkeypatch.setattr(places, "time", SimpleNamespace(monotonic=lambda: now[0]))
    full.add(["a"])
    now[0] += places.AVOID_S - 1
    assert full.avoided(Share(1.0)) == {"a"}
    now[0] += 1
    assert full.avoided(Share(1.0)) == set()


@pytest.mark.usefixtures("nodes")
def test_a_node_is_found_by_its_address() -> None:
    assert nodes_at("10.0.0.4") == ["b"]
    assert nodes_at("") == []


@pytest.mark.parametrize(("avoid", "selector"), [(set(), None), ({"b", "a"}, [{"ray.io/node-id": "!in(a,b)"}] * 2)])
def test_a_place_is_requested_elsewhere(
    avoid: set[str], selector: list[dict[str, str]] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: dict[str, Any] = {}
    monkeypatch.setattr(places, "placement_group", lambda bundles, **options: requested.update(options))
    monkeypatch.setattr(places, "PlacementGroupSchedulingStrategy", lambda group, index: index)
    reserve("mine", Share(1.0, workers=2), lambda **options: SimpleNamespace(), avoid)
    assert requested["bundle_label_selector"] == selector
