"""How tests wait, and how they hold a limit in seconds, on a machine that may be busy with other tests."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

# What takes seconds on a quiet machine may take minutes beside others. It is less than pytest's own limit of 300 s,
# so that the test itself says what did not come.
PATIENCE_S = 240.0
Found = TypeVar("Found")


def until(found: Callable[[], Found], what: object = "it", seconds: float = PATIENCE_S) -> Found:
    """What `found` returns, as soon as it is true.

    Args:
        found: is called every 0.05 s.
        what: is named if it does not come; a function is called then.
        seconds: the most to wait.
    """
    retry = Retrying(
        retry=retry_if_result(lambda value: not value),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(0.05),
        retry_error_callback=lambda state: state.outcome.result(),
    )
    value = retry(found)
    assert value, f"waited {seconds:g} s in vain: {what() if callable(what) else what}"
    return value


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails if the block takes longer, without the time in which processes waited for a processor."""
    began, queued = time.monotonic(), queued_s()
    yield
    taken = time.monotonic() - began - (queued_s() - queued)
    assert taken < seconds, f"took {taken:.1f} s of at most {seconds:g}"


def queued_s() -> float:
    """The seconds, since the machine began, in which a process waited for a processor; 0 if the kernel does not say.

    `docs.kernel.org/accounting/psi.html`: the total of the line `some`, in microseconds.
    """
    pressure = Path("/proc/pressure/cpu")
    return int(pressure.read_text().split("total=")[1].split()[0]) / 1e6 if pressure.exists() else 0.0
