"""Makes the page of a sweep, and puts it where it belongs."""

from __future__ import annotations

import logging
import time

from raysweep.errors import NotFound
from raysweep.history import results
from raysweep.history.results import SweepResults
from raysweep.storage import Storage

NAME = results.REPORT

log = logging.getLogger(__name__)


def write(place: Storage) -> None:
    """Writes report.html into the sweep's storage, from what its journal has now.

    Args:
        place: the sweep's own folder or prefix.

    Raises:
        NotFound: there is no sweep, or its sweep.json is damaged.
        ImportError: plotly or Jinja is not installed, as on a cluster of Ray's own image.
    """
    found = results.find(place)
    if found is None or not found.spec:
        raise NotFound(f"{place.url} has no sweep.json that can be read")
    place.put(NAME, page_of([found]))


def write_if_possible(place: Storage) -> None:
    """The same; whatever fails is a warning, since the page is only a view of the journal."""
    try:
        write(place)
    except Exception as error:
        log.warning(
            "%s could not be written, the journal has everything: %s: %s", NAME, type(error).__name__, error
        )


def page_of(sweeps: list[SweepResults]) -> bytes:
    """The page of these sweeps, as they are now."""
    from raysweep.report.page import render  # with Optuna and Jinja, which nothing else needs before a sweep ends

    return render(sweeps, time.time())
