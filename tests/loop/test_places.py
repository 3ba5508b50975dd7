"""What is said of the use of a sweep's places."""

from __future__ import annotations

from types import SimpleNamespace

from raysweep.loop.executor import Share
from raysweep.loop.places import Place, Stage, Usage


def place(stage: Stage, *nodes: str) -> Place:
    return Place(Share(1.0), None, SimpleNamespace(nodes=set(nodes)), stage)


def test_the_use_of_places_counts_those_that_are_there() -> None:
    places = [
        place(Stage.STARTING), place(Stage.IDLE, "a"), place(Stage.BUSY, "a"), place(Stage.BUSY, "b", "c"),
        place(Stage.ENDING, "b"), place(Stage.LEAVING, "d"),
    ]  # fmt: skip
    assert Usage.of(places) == Usage(places=4, busy=3, starting=1, nodes=3)
    assert Usage.of([]) == Usage(0, 0, 0, 0)
