"""What a sweep found, in the formats of the tools people have; all of it is derived from the journal.

trials.csv    one row a trial                                       pandas, a spreadsheet
best.json     the best trial: configuration, metric, checkpoint     `raysweep predict`, your own code
optuna.log    the sweep as an Optuna study                          optuna-dashboard optuna.log
tensorboard/  events of each trial, written while it runs           tensorboard --logdir
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raysweep.errors import BadInput, NotFound
from raysweep.history import checkpoint as checkpoints
from raysweep.history import journal
from raysweep.history.sweep_state import ENDED, Result, SweepState, TrialRecord
from raysweep.spec.flags import nearest
from raysweep.storage import Storage, open_storage
from raysweep.values import TIME_THIS_ITER_S, TIME_TOTAL_S, flat

OLD_TRIAL_ID = "trial_id"  # a metric in journals of before
# Columns of the table that are no metric; a metric of such a name stands under `metrics/…`.
_COLUMNS = {"trial", "status", "iterations", "best_iteration", "node", "donors", "failures", "failed_by", "checkpoint"}


@dataclass(frozen=True)
class Objective:
    """What is optimised: one metric, or several with a mode each."""

    metrics: tuple[str, ...]
    modes: tuple[str, ...]

    @property
    def single(self) -> bool:
        """Whether one trial can be the best."""
        return len(self.metrics) == 1


@dataclass(frozen=True)
class SweepResults:
    """A sweep as its storage has it, running or ended.

    Attributes:
        url: the sweep's folder or prefix.
        spec: sweep.json, what was asked for.
        state: the folded journal.
    """

    url: str
    spec: dict[str, Any]
    state: SweepState

    @property
    def objective(self) -> Objective:
        """The metrics and modes of the sweep."""
        return Objective(tuple(self.spec["metrics"]), tuple(self.spec["modes"]))

    @property
    def table(self) -> pd.DataFrame:
        """One row a trial, in the order of their numbers; `config/…` and metrics of the best iteration."""
        return pd.DataFrame([_row(trial, self.objective) for trial in self.state.trials.values()])

    @property
    def best(self) -> dict[str, Any] | None:
        """The best trial of a single-objective sweep; None when none has reported a number."""
        found = best_trial(self.state, self.objective) if self.objective.single else None
        return _best(*found, self.objective) if found else None

    @property
    def front(self) -> list[dict[str, Any]]:
        """The trials that no other trial beats in every metric."""
        return [_best(trial, result, self.objective) for trial, result in pareto_front(self.state, self.objective)]

    def load(self, key: str | None = None) -> Any:
        """The state saved in a checkpoint; in the best trial's if not given.

        Raises:
            NotFound: the sweep has no best trial, or that trial saved no checkpoint.
            Corrupt: the checkpoint is not what was saved.
        """
        key = key or (self.best or {}).get("checkpoint")
        if key is None:
            raise NotFound(f"{self.url} has no checkpoint of a best trial: the task saves none with report(…, state=…)")
        return checkpoints.load(open_storage(self.url), key)


def read(name: str, storage: str) -> SweepResults:
    """The results of a sweep, as far as it is.

    Raises:
        BadInput: there is no sweep of that name there.
    """
    place = open_storage(storage).child(name)
    spec = read_spec(place)
    if spec is None:
        close = nearest(name, names(storage))
        raise BadInput(
            f"there is no sweep `{name}` in {storage}{close}: `raysweep results` lists them; or give --storage"
        )
    return SweepResults(place.url, spec, SweepState(journal.read(place)))


def names(storage: str) -> list[str]:
    """The sweeps of a storage, by name."""
    place = open_storage(storage)
    return [name for name in place.folders() if place.exists(f"{name}/sweep.json")]


def ranked(found: SweepResults) -> pd.DataFrame:
    """The table with the best trials first, and without the columns that are empty."""
    table = found.table
    if table.empty:
        return table
    ascending = [mode == "min" for mode in found.objective.modes]
    ordered = table.sort_values([_column(metric) for metric in found.objective.metrics], ascending=ascending)
    return ordered.drop(columns="checkpoint").replace("", None).dropna(axis="columns", how="all")


def summary(found: SweepResults) -> str:
    """How the trials ended, the best of them, and where everything is."""
    counts = {status: found.state.count(status) for status in (*ENDED, "running", "pending")}
    lines = ["trials: " + (", ".join(f"{n} {status}" for status, n in counts.items() if n) or "none")]
    if not found.objective.single:
        lines.append(f"Pareto front: {len(found.front)} trials, in {found.url}/best.json")
    elif best := found.best:
        metric = found.objective.metrics[0]
        lines.append(f"best {metric} {best['metrics'][metric]:.6g}: trial {best['trial']}, {best['config']}")
    return "\n".join([*lines, f"results in {found.url}: trials.csv best.json optuna.log tensorboard/"])


def read_spec(place: Storage) -> dict[str, Any] | None:
    """sweep.json of a sweep, or None where no sweep was begun."""
    try:
        spec: dict[str, Any] = json.loads(place.get("sweep.json"))
    except NotFound:
        return None
    return spec


def best_trial(state: SweepState, objective: Objective) -> tuple[TrialRecord, Result] | None:
    """The trial with the best iteration, and that iteration."""
    metric, mode = objective.metrics[0], objective.modes[0]
    found = [(trial, best) for trial in state.trials.values() if (best := trial.best(metric, mode))]
    sign = 1 if mode == "max" else -1
    return max(found, key=lambda pair: sign * pair[1].metrics[metric], default=None)


def pareto_front(state: SweepState, objective: Objective) -> list[tuple[TrialRecord, Result]]:
    """Trials whose final values are not dominated by another trial's, with the result that has them."""
    trials = state.trials.values()
    found = [(trial, last) for trial in trials if (last := trial.last_with(objective.metrics))]
    if not found:
        return []
    signs = [1 if mode == "max" else -1 for mode in objective.modes]
    values = np.array([[float(last.metrics[metric]) for metric in objective.metrics] for _, last in found])
    return [pair for pair, kept in zip(found, _undominated(values * signs), strict=True) if kept]


def _undominated(values: np.ndarray[Any, Any]) -> list[bool]:
    """For each row, whether no other one is as large everywhere and larger somewhere."""
    rows, of = np.unique(values, axis=0, return_inverse=True)
    front, size = np.empty_like(rows), 0
    kept = np.zeros(len(rows), dtype=bool)
    # They are sorted: what dominates a row comes after it, and if that is dominated, then by one on the front.
    for n in range(len(rows) - 1, -1, -1):
        # Of two objectives, the newest on the front has the most of the second: one comparison says it.
        begin = max(size - 1, 0) if rows.shape[1] <= 2 else 0
        if not (front[begin:size] >= rows[n]).all(axis=1).any():
            front[size], kept[n], size = rows[n], True, size + 1
    return list(kept[of.reshape(-1)])


def _shown(trial: TrialRecord, objective: Objective) -> Result | None:
    if objective.single:
        return trial.best(objective.metrics[0], objective.modes[0])
    return trial.last_with(objective.metrics) or trial.last


def _column(metric: str) -> str:
    """The column of a metric, whatever its name."""
    return f"metrics/{metric}" if metric in _COLUMNS or metric.startswith("config/") else metric


def _row(trial: TrialRecord, objective: Objective) -> dict[str, Any]:
    shown, last = _shown(trial, objective), trial.last
    metrics = shown.metrics if shown else {}
    row: dict[str, Any] = {"trial": trial.id, "status": trial.status}
    row |= {_column(metric): metrics.get(metric) for metric in objective.metrics}
    row |= {"best_iteration": shown.iteration if shown else None, "iterations": last.iteration if last else 0}
    row |= {f"config/{key}": value for key, value in flat(shown.config if shown else trial.config).items()}
    # Ray's clocks: the whole trial's is a column of its own, an iteration's says nothing of it; its id stands first.
    apart = (TIME_THIS_ITER_S, TIME_TOTAL_S, OLD_TRIAL_ID, *objective.metrics)
    row |= {_column(metric): value for metric, value in metrics.items() if metric not in apart}
    row[TIME_TOTAL_S] = last.metrics.get(TIME_TOTAL_S) if last else None
    row |= {
        "node": last.node if last else None,
        "donors": " ".join(trial.donors),
        "failures": len(trial.failures),
        "failed_by": " ".join(trial.kinds),
    }
    row["checkpoint"] = shown.checkpoint.key if shown and shown.checkpoint else None
    return row


def _best(trial: TrialRecord, result: Result, objective: Objective) -> dict[str, Any]:
    of = {"trial": trial.id, "iteration": result.iteration}
    values = {metric: result.metrics[metric] for metric in objective.metrics}
    more = {
        "config": result.config,
        "metrics": result.metrics,
        "checkpoint": result.checkpoint.key if result.checkpoint else None,
        "sha256": result.checkpoint.sha256 if result.checkpoint else None,
    }
    return of | values | of | more  # a metric of the name of another field is among `metrics` only
