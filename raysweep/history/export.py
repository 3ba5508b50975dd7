"""Writes the files of a sweep for other tools: trials.csv, best.json, and optuna.log for optuna-dashboard."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pandas as pd

from raysweep.history.results import SweepResults
from raysweep.storage import Storage
from raysweep.values import to_json

log = logging.getLogger(__name__)


def export(place: Storage, results: SweepResults, space: dict[str, Any]) -> None:
    """Writes trials.csv, best.json and optuna.log into the sweep's storage, as far as possible.

    They are only a view of the journal: if one cannot be written, that is said, and ends neither the others nor the
    sweep.

    Args:
        place: the sweep's own folder or prefix.
        results: of the sweep.
        space: of Ray's domains, from which its trials were drawn.
    """
    for name, content in (("trials.csv", _table), ("best.json", _best), ("optuna.log", _study)):
        try:
            place.put(name, content(results, space))
        except Exception as error:
            log.warning("%s could not be written, the journal has everything: %s", name, error)


def export_table(place: Storage, results: SweepResults) -> None:
    """Writes trials.csv alone.

    Args:
        place: the sweep's own folder or prefix.
        results: of the sweep.

    Raises:
        StorageError: the storage refused.
    """
    place.put("trials.csv", _table(results, {}))


def _table(results: SweepResults, space: dict[str, Any]) -> bytes:
    # With pandas' own types, an integer would become a float where another trial has none.
    table = pd.DataFrame(results.rows, dtype=object)
    text = table.map(_cell).to_csv(index=False)
    # A carriage return within a name or a text is quoted only if it ends the lines, too.
    return (table.map(_cell).to_csv(index=False, lineterminator="\r\n") if "\r" in text else text).encode()


def _cell(value: Any) -> Any:
    """A cell of trials.csv: lists and tagged values as JSON, so that `--points trials.csv` reads them."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _best(results: SweepResults, space: dict[str, Any]) -> bytes:
    written = replace(results, space=None)
    return _json(written.best if results.objective.single else {"front": written.front})


def _study(results: SweepResults, space: dict[str, Any]) -> bytes:
    from raysweep.history.optuna_export import study_log  # Optuna takes a second to import: not before the trials ran

    return study_log(results, space)


def _json(value: Any) -> bytes:
    """Standard JSON: NaN and the infinities, which it does not have, become null."""
    plain = json.loads(to_json(value), parse_constant=lambda _: None)
    return (json.dumps(plain, indent=2, allow_nan=False) + "\n").encode()
