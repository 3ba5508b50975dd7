"""Shows a sweep in the terminal until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.live import Live as Display

from raysweep.errors import SweepFailed, Unavailable
from raysweep.viewing.followed import Followed
from raysweep.viewing.frame import frame
from raysweep.viewing.tally import Driver, Pulse, Tally

OFTEN_S = 1.0  # between two looks
RETURNS_S = 300.0  # in which a driver that died comes back: a cluster submits a lost job again
OUTAGE_S = 600.0  # for which the storage may be away
DETACHED = 130  # what a shell reports for Ctrl-C


class Watch:
    """Looks at a sweep again and again.

    Args:
        name: of the sweep.
        storage: where the sweeps are.
        console: that it is shown on.

    Raises:
        BadInput: there is no such sweep.
        StorageError: the storage refused.
    """

    def __init__(self, name: str, storage: str, console: Console) -> None:
        self._name, self._console = name, console
        self._tally = Tally()
        self._sweep = Followed(name, storage, self._tally)
        self._pulse = Pulse(self._sweep.place)
        self._note, self._answered = "", time.monotonic()
        self._driver = Driver.RUNS

    def once(self) -> int:
        """Shows one frame; returns the sweep's exit code, 0 while it runs."""
        self._console.print(self._look())
        return self._sweep.sweep.state.exit_code or 0

    def to_the_end(self) -> int:
        """Shows frames until the sweep has ended; returns its exit code, DETACHED after Ctrl-C.

        Where no terminal is, only the last frame is shown.

        Raises:
            SweepFailed: its driver died, and none came back for RETURNS_S.
            StorageError: the storage refused, or was not reachable for OUTAGE_S.
        """
        try:
            if self._console.is_terminal:
                with Display(console=self._console, auto_refresh=False, vertical_overflow="visible") as display:
                    return self._follow(lambda shown: display.update(shown, refresh=True))
            code = self._follow(lambda _: None)
            self._console.print(self._look())
            return code
        except KeyboardInterrupt:
            self._console.print(f"the sweep goes on without being watched: raysweep watch {self._name}")
            return DETACHED

    def _follow(self, show: Callable[[RenderableType], None]) -> int:
        while True:
            show(self._look())
            code = self._sweep.sweep.state.exit_code
            if self._driver is Driver.GONE and code is not None:
                return code
            if self._driver is Driver.SILENT and self._pulse.silence > RETURNS_S:
                raise SweepFailed(
                    f"{self._name} has had no driver for {RETURNS_S:g} s: its results are safe, continue it with"
                    f" --name {self._name} --resume auto"
                )
            time.sleep(OFTEN_S)

    def _look(self) -> RenderableType:
        """What there is now; if the storage does not answer, what there was."""
        live = None
        try:
            self._sweep.update()
            self._driver = self._pulse.driver(self._tally)
            live = self._pulse.live(self._tally)
            self._note, self._answered = "", time.monotonic()
        except Unavailable as error:
            if time.monotonic() - self._answered > OUTAGE_S:
                raise
            self._note = f"this is as of {time.monotonic() - self._answered:.0f} s ago: {error}"
        return frame(self._tally, self._driver, live, self._note)
