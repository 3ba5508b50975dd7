"""Writes the files of a sweep for other tools: trials.csv, best.json, and optuna.log for optuna-dashboard."""

from __future__ import annotations

import json
from typing import Any

from raysweep.history.results import SweepResults
from raysweep.storage import Storage
from raysweep.values import to_json


def export(place: Storage, results: SweepResults) -> None:
    """Writes trials.csv, best.json and optuna.log into the sweep's storage.

    Raises:
        StorageError: the storage refused one of them.
    """
    place.put("trials.csv", results.table.to_csv(index=False).encode())
    best = results.best if results.objective.single else {"front": results.front}
    place.put("best.json", _json(best))
    from raysweep.history.optuna_export import study_log  # Optuna takes a second to import: not before the trials ran

    place.put("optuna.log", study_log(results))


def _json(value: Any) -> bytes:
    """Standard JSON: NaN and the infinities, which it does not have, become null."""
    plain = json.loads(to_json(value), parse_constant=lambda _: None)
    return (json.dumps(plain, indent=2, allow_nan=False) + "\n").encode()
