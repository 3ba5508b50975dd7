"""`raysweep record`: the learning curves of finished sweeps, as one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from raysweep.errors import BadInput
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import TrialRecord
from raysweep.spec.configuration import parameters
from raysweep.spec.paths import KeyPath, name_of, value_at
from raysweep.spec.space import describe
from raysweep.spec.space_file import write
from raysweep.study import table
from raysweep.study.table import METRIC, CurveTable
from raysweep.values import AUTOMATIC_METRICS, SEED, TIME_THIS_ITER_S, is_number, to_json

SAME = ("task", "metrics", "modes", "max_iterations")  # in all sweeps of a table


def record(
    sweeps: Sequence[SweepResults], space: dict[str, Any], mutable: tuple[str, ...] | None = None
) -> tuple[CurveTable, dict[str, int]]:
    """The table of all trials that did all their iterations, or diverged.

    Args:
        sweeps: of one task, with one metric.
        space: of Ray's domains, from which all were drawn; a sweep's may have a parameter `seed` in addition.
        mutable: the task's MUTABLE.

    Returns:
        The table; and how many trials are not in it, by the reason.

    Raises:
        BadInput: the sweeps are not of one kind, or have no whole curve.
    """
    _check(sweeps, space)
    spec, left_out = sweeps[0].spec, Counter[str]()
    rows: list[dict[str, Any]] = []
    configurations: dict[str, int] = {}
    flat: list[dict[str, Any]] = []
    known: set[tuple[int, int]] = set()
    paths = list(parameters(space))
    for trial in (each for sweep in sweeps for each in sweep.state.trials.values()):
        if reason := _unusable(trial, spec["metrics"][0], spec["max_iterations"]):
            left_out[reason] += 1
            continue
        config, seed = _config(trial, paths), int(trial.config.get(SEED, 0))
        number = configurations.setdefault(to_json(config), len(configurations))
        if (number, seed) in known:
            left_out["same configuration and seed as another"] += 1
            continue
        known.add((number, seed))
        for result in sorted(trial.results.values(), key=lambda each: each.iteration):
            head = {"configuration": number, "seed": seed, "iteration": result.iteration}
            rows.append({**head, "seconds": result.metrics[TIME_THIS_ITER_S], **_metrics(result.metrics)})
            flat.append(config)
    if not rows:
        told = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no trials"
        raise BadInput(
            f"no trial of these sweeps did all {spec['max_iterations']} iterations ({told}): record random_search"
        )
    frame = pd.DataFrame(rows)
    keys, metrics = frame[list(table.KEYS)], frame.drop(columns=list(table.KEYS))
    values = metrics.apply(pd.to_numeric, errors="coerce").astype(float)
    whole = pd.concat([keys, pd.DataFrame(table.columns(space, flat)), values], axis="columns")
    return CurveTable(whole, _about(sweeps, space, mutable), space), dict(left_out)


def _check(sweeps: Sequence[SweepResults], space: dict[str, Any]) -> None:
    first, problems = sweeps[0], []
    for sweep in sweeps:
        name, spec = sweep.spec["name"], sweep.spec
        if not sweep.objective.single:
            problems.append(f"`{name}` has several objectives, and a table has one: record a sweep of one metric")
        problems += [
            f"`{name}` has the {key} {spec[key]}, and `{first.spec['name']}` has {first.spec[key]}: record them apart"
            for key in SAME
            if spec[key] != first.spec[key]
        ]
        drawn = {key: line for key, line in spec["space"].items() if key != SEED or SEED in space}
        if drawn != describe(space):
            problems.append(
                f"`{name}` was drawn from another space than that of task {spec['task']} now: give its own,"
                " `--space FILE`"
            )
        problems += [f"`{name}`: {damage}" for damage in sweep.damage]
    if problems:
        raise BadInput(*problems)


def _unusable(trial: TrialRecord, metric: str, iterations: int) -> str:
    """Why a trial's results are not the learning curve of one configuration; empty if they are."""
    if trial.donors:
        return "went on from another trial"
    if trial.last is None:
        return "without a report"
    if sorted(trial.results) != list(range(1, len(trial.results) + 1)):
        return "with iterations missing"
    if len(trial.results) < iterations and is_number(trial.last.metrics.get(metric)):
        return f"ended early ({trial.status})"
    return ""


def _config(trial: TrialRecord, paths: Sequence[KeyPath]) -> dict[str, Any]:
    return {name_of(path): value_at(trial.config, path) for path in paths}


def _metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    named = {name: value for name, value in metrics.items() if name not in AUTOMATIC_METRICS}
    return {METRIC + name: value for name, value in named.items() if not isinstance(value, str | list | dict)}


def _about(sweeps: Sequence[SweepResults], space: dict[str, Any], mutable: tuple[str, ...] | None) -> dict[str, Any]:
    spec = sweeps[0].spec
    flags = spec.get("flags", {})
    return {
        "task": spec["task"],
        "space": write(space),
        "mutable": None if mutable is None else list(mutable),
        "metric": spec["metrics"][0],
        "mode": spec["modes"][0],
        "max_iterations": spec["max_iterations"],
        "sweeps": [sweep.spec["name"] for sweep in sweeps],
        "cpus_per_trial": flags.get("cpus_per_trial"),
        "gpus_per_trial": flags.get("gpus_per_trial"),
        "hardware": sorted({str(sweep.spec.get("hardware", "not recorded")) for sweep in sweeps}),
        "versions": spec.get("versions", {}) | {"python": spec.get("python")},
        "code": spec.get("code"),
    }
