"""Makes the page of a sweep, and puts it where it belongs."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

from raysweep.errors import NotFound
from raysweep.history import results
from raysweep.history.results import SweepResults
from raysweep.storage import Storage

NAME = results.REPORT
SHORT_S = 5.0  # of a sweep
OFTEN_S = 30.0  # between two pages of a running sweep, at least; they reload themselves that often

log = logging.getLogger(__name__)


def write(place: Storage) -> None:
    """Writes report.html into the sweep's storage, from what its journal has now.

    That of a short sweep is brief: to import what it lacks would take as long as the sweep itself.

    Args:
        place: the sweep's own folder or prefix.

    Raises:
        NotFound: there is no sweep, or its sweep.json is damaged.
        ImportError: plotly or Jinja is not installed, as on a cluster of Ray's own image.
    """
    found = results.find(place)
    if found is None or not found.spec:
        raise NotFound(f"{place.url} has no sweep.json that can be read")
    place.put(NAME, page_of([found], brief=_lasted(found) < SHORT_S))


def _lasted(sweep: SweepResults) -> float:
    """Seconds from its first event to its last one."""
    times = [float(event.get("time", 0.0)) for event in sweep.state.events or []]
    return times[-1] - times[0] if times else 0.0


def write_if_possible(place: Storage) -> float:
    """The same; whatever fails is a warning, since the page is only a view of the journal.

    Returns:
        Seconds of this thread's processor time; what is imported for the first page is left out.
    """
    began = time.thread_time()
    try:
        import raysweep.reporting.page  # noqa: F401 (with Optuna and Jinja)

        began = time.thread_time()
        write(place)
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        log.warning("%s could not be written, the journal has everything: %s", NAME, cause)
    return time.thread_time() - began


def page_of(sweeps: list[SweepResults], brief: bool = False) -> bytes:
    """The page of these sweeps, as they are now; see `page.render`."""
    from raysweep.reporting.page import render  # a second of imports, which nothing else needs while a sweep starts

    return render([replace(each, spec=_whole(each)) for each in sweeps], time.time(), OFTEN_S, brief)


def _whole(sweep: SweepResults) -> dict[str, Any]:
    """A spec with all that a page shows: a damaged one may lack some."""
    return {"name": sweep.url.rpartition("/")[2], "strategy": "unknown", "task": "unknown", **sweep.spec}
