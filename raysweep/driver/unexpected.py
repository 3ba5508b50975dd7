"""What a job prints of an exception that nobody expected: what failed, where, and where all of it can be read."""

from __future__ import annotations

import contextlib
import tempfile
import traceback
from textwrap import shorten

from raysweep import user_code
from raysweep.errors import StorageError
from raysweep.storage import open_storage

FILE = "driver-error.txt"  # in the sweep's storage
LONGEST = 500  # characters of what the exception says


def describe(error: BaseException, storage: str, sweep: str | None) -> str:
    """One paragraph; the full traceback is kept.

    Args:
        error: what was raised, by this package or by the user's code that it calls in the driver: a strategy's
            `tune_config`, a task's `load_data`, a searcher, a scheduler.
        storage: of the sweep.
        sweep: its name; None if it has none yet.
    """
    kept, left = _keep("".join(traceback.format_exception(error)), storage, sweep)
    what = f"sys.exit({error.code!r}) was called" if isinstance(error, SystemExit) else _name(error)
    if place := user_code.place_in(error.__traceback__):
        return f"{what} at {place}; the full traceback is in {kept}{left}"
    place = user_code.innermost(error.__traceback__)
    return f"{what} at {place}: no code of yours is in the traceback: please report it, with {kept}{left}"


def _name(error: BaseException) -> str:
    text = shorten(str(error), LONGEST, placeholder=" …")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _keep(text: str, storage: str, sweep: str | None) -> tuple[str, str]:
    """Writes the traceback beside the sweep's journal, or into the temporary directory if there is no such sweep;
    returns where it is, and what can be done with the sweep.
    """
    with contextlib.suppress(StorageError):
        if sweep and (place := open_storage(storage).child(sweep)).exists("sweep.json"):
            place.put(FILE, text.encode())
            return f"{place.url}/{FILE}", f"; its trials are safe: continue with --name {sweep} --resume auto"
    with tempfile.NamedTemporaryFile("w", prefix="raysweep-", suffix=f"-{FILE}", delete=False) as file:
        file.write(text)
    return file.name, ""
