"""Shows what the trials print, as they do: `--show-output`. Ray's own stream of it drops lines that come too fast."""

from __future__ import annotations

import contextlib
import threading

import click
import ray
from ray.exceptions import RayError
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

WAITING = 16  # pieces of up to a megabyte; a trial's lines beyond them wait on its node


class ShowOutput:
    """Prints each line of each trial with `(trial 00003) ` before it, until it is closed.

    Attributes:
        queue: takes pairs of a trial and lines of it, from the processes of the trials.
    """

    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self.queue = Queue(WAITING, {"num_cpus": 0, "scheduling_strategy": here})
        self._thread = threading.Thread(target=self._loop, name="show-output", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        try:
            while (item := self.queue.get()) is not None:
                _print(*item)
        except RayError as error:
            click.echo(f"warning: what trials print is no longer shown: {error}", err=True)

    def close(self) -> None:
        """Shows what is still on its way, and ends."""
        with contextlib.suppress(RayError):
            self.queue.put(None)
            self._thread.join()
            self.queue.shutdown(force=True)


def _print(trial: str, lines: bytes) -> None:
    head = f"(trial {trial}) "
    click.echo(head + lines.decode(errors="replace")[:-1].replace("\n", f"\n{head}"))
