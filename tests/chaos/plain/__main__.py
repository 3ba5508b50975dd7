"""Runs them, those of clusters last."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tests.chaos.plain import nodes, pods, processes, storage

# What runs the faults of a kind, one after the other.
GROUPS: tuple[tuple[tuple[str, ...], Callable[[list[str]], Iterator[dict[str, Any]]]], ...] = (
    (processes.FAULTS, processes.on_processes),
    (storage.FAULTS, storage.on_storage),
    (nodes.FAULTS, nodes.on_nodes),
    (pods.FAULTS, pods.on_pods),
)


def main(asked: list[str]) -> None:
    """Prints a line of JSON for each fault."""
    known = [fault for faults, _ in GROUPS for fault in faults]
    wanted = known if asked == ["--all"] else asked
    if unknown := set(wanted) - set(known):
        sys.exit(f"error: unknown faults {', '.join(sorted(unknown))}: known are {', '.join(known)}")
    for faults, on in GROUPS:
        if mine := [fault for fault in wanted if fault in faults]:
            for found in on(mine):
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
