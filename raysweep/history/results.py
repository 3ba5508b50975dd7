"""The results of a sweep, in formats for common tools; all are derived from the journal.

trials.csv    one row per trial                                     pandas, a spreadsheet
best.json     the best trial: configuration, metric, checkpoint     `raysweep predict`, your own code
optuna.log    the sweep as an Optuna study                          `raysweep open NAME --with optuna-dashboard`
report.html   the page of the sweep, see `raysweep.reporting`       a browser
tensorboard/  scalars of each trial, written while it runs          `raysweep open NAME --with tensorboard`
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raysweep.errors import BadInput, Corrupt, NotFound, StorageError
from raysweep.history import checkpoint as checkpoints
from raysweep.history import segments, trial_log
from raysweep.history.checkpoint import Checkpoint
from raysweep.history.sweep_state import ENDED, Result, SweepState, TrialRecord
from raysweep.spec.configuration import Codec
from raysweep.spec.flags import nearest
from raysweep.storage import Storage, open_storage
from raysweep.values import TIME_THIS_ITER_S, TIME_TOTAL_S, flat

FILES = ("trials.csv", "best.json", "optuna.log")  # written at the end of a sweep, or when it is interrupted
REPORT = "report.html"  # written then, and while a sweep runs

log = logging.getLogger(__name__)
# Columns of the table that are not metrics; a metric with such a name has the column `metrics/…`.
_COLUMNS = {"trial", "status", "iterations", "best_iteration", "node", "donors", "failures", "failed_by", "checkpoint"}

# What a resume and the results need of sweep.json.
_SPEC = {"name": str, "strategy": str, "task": str, "metrics": list, "modes": list, "seed": int, "samples": int}
_SPEC |= {"max_iterations": int, "knobs": dict, "space": dict}
_REPAIR = "restore it from a backup, or go on without what is lost: `--resume auto --repair`"
_REPAIR_SPEC = "restore it from a backup, or write it anew from the sweep's flags: `--resume auto --repair`"


@dataclass(frozen=True)
class Objective:
    """What is optimised: one metric, or several, each with its mode."""

    metrics: tuple[str, ...]
    modes: tuple[str, ...]

    @property
    def single(self) -> bool:
        """Whether there is one metric, so that one trial can be the best."""
        return len(self.metrics) == 1


@dataclass(frozen=True)
class SweepResults:
    """The results of a sweep, running or ended, as stored.

    Attributes:
        url: the sweep's folder or prefix.
        spec: sweep.json, what was to be done.
        state: the state that the journal adds up to.
        damage: what of the sweep cannot be read or is missing: file, place and fix; empty for an intact sweep.
        space: of Ray's domains, if it is at hand: best trials then have its objects in their configurations.
    """

    url: str
    spec: dict[str, Any]
    state: SweepState
    damage: tuple[str, ...] = ()
    space: dict[str, Any] | None = None

    @property
    def objective(self) -> Objective:
        """The metrics and modes of the sweep."""
        return Objective(tuple(self.spec["metrics"]), tuple(self.spec["modes"]))

    @property
    def table(self) -> pd.DataFrame:
        """One row per trial, in the order of their numbers; with `config/…` and the metrics of its best iteration."""
        return pd.DataFrame(self.rows)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the table, with the values as the journal has them."""
        return [_row(trial, self.objective) for trial in self.state.trials.values()]

    @property
    def best(self) -> dict[str, Any] | None:
        """The best trial of a single-objective sweep; None if none has reported a number."""
        best = best_trial(self.state, self.objective) if self.objective.single else None
        return self._shown(*best) if best else None

    @property
    def front(self) -> list[dict[str, Any]]:
        """The Pareto front: the trials that no other trial dominates."""
        return [self._shown(trial, result) for trial, result in pareto_front(self.state, self.objective)]

    def _shown(self, trial: TrialRecord, result: Result) -> dict[str, Any]:
        shown = _as_dict(trial, result, self.objective)
        return shown if self.space is None else shown | {"config": Codec(self.space).restore(result.config)}

    def load(self, key: str | None = None, folder: Path | str | None = None) -> Any:
        """The state in a checkpoint; without a key, in that of the best trial, at or nearest to its best iteration.

        Args:
            key: of the checkpoint.
            folder: where the files of a checkpoint that is a folder are put, and which is then returned; a new one.

        Raises:
            NotFound: the sweep has no best trial, or that trial saved no checkpoint.
            Corrupt: the checkpoint is not what was saved.
            BadInput: the checkpoint is a folder, and `folder` is not given or exists already.
        """
        best = self.best or {}
        if key is None and best.get("checkpoint") and best["checkpoint_iteration"] != best["iteration"]:
            log.warning(
                "trial %s was best at iteration %s, which saved no state: the nearest one is of iteration %s",
                *(best[name] for name in ("trial", "iteration", "checkpoint_iteration")),
            )
        key = key or best.get("checkpoint")
        if key is None:
            raise NotFound(
                f"{self.url} has no checkpoint of a best trial: save one in the task with report(…, state=…)"
            )
        if folder is not None and Path(folder).exists():
            raise BadInput(f"`folder={folder}`: must not exist yet: give another one")
        return checkpoints.load(open_storage(self.url), key, (lambda: Path(folder)) if folder is not None else None)

    def logs(self, trial: str | int) -> str:
        """What a trial has printed in all of its runs, see `trial_log`; empty if that is nothing.

        Raises:
            StorageError: the storage refused, or is not reachable.
        """
        return bytes(trial_log.read(open_storage(self.url), f"{int(trial):05d}")).decode(errors="replace")


def read(name: str, storage: str) -> SweepResults:
    """The results of a sweep, so far; of a damaged one, what can be read.

    Raises:
        BadInput: there is no sweep of that name there.
        Corrupt: its sweep.json is missing or damaged.
    """
    found = find(open_storage(storage).child(name))
    if found is None:
        raise no_sweep(name, storage)
    if not found.spec:
        raise Corrupt(found.damage[0])
    return replace(found, spec={**found.spec, "name": name})  # its folder's: somebody may have renamed that


def no_sweep(name: str, storage: str) -> BadInput:
    """The error of a name that no sweep there has, with the nearest one that there is."""
    suggestion = nearest(name, names(storage))
    return BadInput(
        f"there is no sweep `{name}` in {storage}{suggestion}: list all with `raysweep results`, or give --storage"
    )


def find(place: Storage) -> SweepResults | None:
    """The sweep in this folder, as far as it can be read; None if there is none. `spec` is empty if it is damaged."""
    spec, damage = _read_spec(place)
    if spec is None:
        if not (parts := _parts(place)):
            return None
        damage = (f"{place.url}/sweep.json is missing, although there is {' and '.join(parts)}: {_REPAIR_SPEC}",)
    reading = segments.read(place)
    damage += tuple(f"{each}: {_REPAIR}" for each in reading.damage)
    if not reading.events and not reading.damage and (parts := _parts(place, without="journal/")):
        damage += (f"{place.url}/journal is empty or missing, although there is {' and '.join(parts)}: {_REPAIR}",)
    return SweepResults(place.url, spec or {}, SweepState(reading.events), damage)


def _parts(place: Storage, without: str = "") -> list[str]:
    """What a sweep that has begun leaves beside its sweep.json."""
    parts = [f"{name}/" for name in place.folders() if name in ("journal", "checkpoints")]
    return [name for name in (*parts, *(["trials.csv"] * place.exists("trials.csv"))) if name != without]


def names(storage: str) -> list[str]:
    """The names of the sweeps in a storage."""
    place = open_storage(storage)
    return [name for name in place.folders() if place.exists(f"{name}/sweep.json") or _was_run(place.child(name))]


def _was_run(place: Storage) -> bool:
    """Whether a folder without sweep.json is a damaged sweep."""
    return {"journal", "lease"} <= set(place.folders())


def ranked(results: SweepResults) -> pd.DataFrame:
    """The table with the best trials first, without empty columns."""
    table = results.table
    if table.empty:
        return table
    ascending = [mode == "min" for mode in results.objective.modes]
    ordered = table.sort_values([_column(metric) for metric in results.objective.metrics], ascending=ascending)
    return ordered.drop(columns="checkpoint").replace("", None).dropna(axis="columns", how="all")


def summary(results: SweepResults) -> str:
    """How the trials ended, the best of them, and where the results are."""
    counts = {status: results.state.count(status) for status in (*ENDED, "running", "pending")}
    lines = ["trials: " + (", ".join(f"{n} {status}" for status, n in counts.items() if n) or "none was begun yet")]
    if not results.objective.single:
        lines.append(f"Pareto front: {len(results.front)} trials, in {results.url}/best.json")
    elif best := replace(results, space=None).best:
        metric = results.objective.metrics[0]
        lines.append(f"best {metric} {best['metrics'][metric]:.6g}: trial {best['trial']}, {best['config']}")
    return "\n".join([*lines, _files(results)])


def _files(results: SweepResults) -> str:
    """Which of the files there are, and when the others come."""
    place = open_storage(results.url)
    try:
        existing = [name for name in FILES if place.exists(name)]
        page = [REPORT] if place.exists(REPORT) else []
        board = ["tensorboard/"] if "tensorboard" in place.folders() else []
    except StorageError as error:  # at the end of a sweep, which has not failed because of that
        return f"results in {results.url}, which cannot be listed now: {error}"
    line = f"results in {results.url}: {' '.join([*existing, *page, *board]) or 'the journal so far'}"
    if results.state.status == "ended":
        return line
    if existing:
        return f"{line}; {' '.join(existing)} are as of the last interruption, and written again at the sweep's end"
    return f"{line}; {' '.join(FILES)} are written at the sweep's end"


def _read_spec(place: Storage) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """sweep.json of a sweep without what is damaged in it, or None if there is none; and what to say of the damage.

    Empty if there is no telling what was optimised.
    """
    try:
        stored: Any = json.loads(place.get("sweep.json").decode())
    except NotFound:
        return None, ()
    except (ValueError, RecursionError):
        stored = None
    stored = stored if isinstance(stored, dict) else {}
    spec: dict[str, Any] = {name: value for name, value in stored.items() if isinstance(value, _SPEC.get(name, object))}
    if not _is_objective(spec.get("metrics", []), spec.get("modes", [])):
        return {}, (f"{place.url}/sweep.json is not what a sweep writes: {_REPAIR_SPEC}",)
    if wrong := [name for name in _SPEC if name not in spec]:
        return spec, (f"{place.url}/sweep.json lacks {', '.join(wrong)}, or they are wrong: {_REPAIR_SPEC}",)
    return spec, ()


def _is_objective(metrics: list[Any], modes: list[Any]) -> bool:
    named = bool(metrics) and all(isinstance(metric, str) for metric in metrics)
    return named and len(modes) == len(metrics) and all(mode in ("max", "min") for mode in modes)


def best_trial(state: SweepState, objective: Objective) -> tuple[TrialRecord, Result] | None:
    """The trial with the best result, and that result."""
    metric, mode = objective.metrics[0], objective.modes[0]
    candidates = [(trial, best) for trial in state.trials.values() if (best := trial.best(metric, mode))]
    sign = 1 if mode == "max" else -1
    return max(candidates, key=lambda pair: sign * pair[1].metrics[metric], default=None)


def winners(state: SweepState, objective: Objective) -> list[tuple[TrialRecord, Result]]:
    """The best trial, or with several metrics the Pareto front, each with its result; none without any."""
    if not objective.single:
        return pareto_front(state, objective)
    best = best_trial(state, objective)
    return [best] if best else []


def pareto_front(state: SweepState, objective: Objective) -> list[tuple[TrialRecord, Result]]:
    """The trials whose final values are not dominated by another trial's, each with its final result."""
    trials = state.trials.values()
    candidates = [(trial, last) for trial in trials if (last := trial.last_with(objective.metrics))]
    if not candidates:
        return []
    signs = [1 if mode == "max" else -1 for mode in objective.modes]
    values = np.array([[float(last.metrics[metric]) for metric in objective.metrics] for _, last in candidates])
    return [pair for pair, on_front in zip(candidates, _undominated(values * signs), strict=True) if on_front]


def _undominated(values: np.ndarray[Any, Any]) -> list[bool]:
    """For each row, whether no other row is at least as large in all columns and larger in one."""
    rows, row_of_value = np.unique(values, axis=0, return_inverse=True)
    front, size = np.empty_like(rows), 0
    on_front = np.zeros(len(rows), dtype=bool)
    # The rows are sorted: those that dominate a row come after it, and one of them is on the front.
    for n in range(len(rows) - 1, -1, -1):
        # With two objectives, the last row on the front has the largest second value: one comparison is enough.
        begin = max(size - 1, 0) if rows.shape[1] <= 2 else 0
        if not (front[begin:size] >= rows[n]).all(axis=1).any():
            front[size], on_front[n], size = rows[n], True, size + 1
    return list(on_front[row_of_value.reshape(-1)])


def _shown_result(trial: TrialRecord, objective: Objective) -> Result | None:
    if objective.single:
        return trial.best(objective.metrics[0], objective.modes[0])
    return trial.last_with(objective.metrics) or trial.last


def _column(metric: str) -> str:
    """The column of a metric; no two have the same."""
    taken = metric in _COLUMNS or metric.startswith(("config/", "metrics/"))
    return f"metrics/{metric}" if taken else metric


def _row(trial: TrialRecord, objective: Objective) -> dict[str, Any]:
    shown, last = _shown_result(trial, objective), trial.last
    metrics = shown.metrics if shown else {}
    row: dict[str, Any] = {"trial": trial.id, "status": trial.status}
    row |= {_column(metric): metrics.get(metric) for metric in objective.metrics}
    row |= {"best_iteration": shown.iteration if shown else None, "iterations": last.iteration if last else 0}
    row |= {f"config/{key}": value for key, value in flat(shown.config if shown else trial.config).items()}
    # The time of one iteration is left out, and the total is that of the whole trial, unless they are optimised.
    excluded = (TIME_THIS_ITER_S, TIME_TOTAL_S, *objective.metrics)
    row |= {_column(metric): value for metric, value in metrics.items() if metric not in excluded}
    row.setdefault(TIME_TOTAL_S, last.metrics.get(TIME_TOTAL_S) if last else None)
    row |= {
        "node": last.node if last else None,
        "donors": " ".join(trial.donors),
        "failures": len(trial.failures),
        "failed_by": " ".join(trial.kinds),
    }
    nearest = _nearest(trial, shown) if shown else None
    row["checkpoint"] = nearest.key if nearest else None
    return row


def _nearest(trial: TrialRecord, result: Result) -> Checkpoint | None:
    """The checkpoint of a result, or if it saved none, the one of that trial that is nearest to it."""
    nearest = trial.nearest_saved(result)
    return nearest.checkpoint if nearest else None


def _as_dict(trial: TrialRecord, result: Result, objective: Objective) -> dict[str, Any]:
    identity = {"trial": trial.id, "iteration": result.iteration}
    values = {metric: result.metrics[metric] for metric in objective.metrics}
    nearest = _nearest(trial, result)
    details = {
        "config": result.config,
        "metrics": result.metrics,
        "checkpoint": nearest.key if nearest else None,
        "checkpoint_iteration": nearest.iteration if nearest else None,
        "sha256": nearest.sha256 if nearest else None,
    }
    return identity | values | identity | details  # a metric with the name of another field is only in `metrics`
