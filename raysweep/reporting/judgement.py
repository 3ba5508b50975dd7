"""What speaks for and against trusting the best trial, and what to do next: each from figures of the sweep alone."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import dataclass
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution

from raysweep.history.optuna_export import Axis
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import Result, TrialRecord
from raysweep.reporting.scores import Scored, ranked
from raysweep.values import TIME_TOTAL_S, is_number

CLOSE = 0.01  # of the spread of all trials' values: who is within it of the best is as good, for all that one run tells
EDGE = 0.03  # of a parameter's range
LATE = 0.8  # of the trials: what improved after that might improve again


@dataclass(frozen=True)
class Finding:
    """One thing that speaks for the result (`good`), or asks for care."""

    good: bool
    text: str


@dataclass(frozen=True)
class Step:
    """A command to go on with, and what for."""

    what: str
    command: str


def findings(results: SweepResults, axes: list[Axis], found: Scored) -> list[Finding]:
    """What is known about how far the best trial can be trusted."""
    told = [Finding(False, f"A part of the journal cannot be read: {each}") for each in results.damage]
    if not results.objective.single and found:
        told.append(Finding(False, "Each configuration was run once: near the front, run-to-run noise may decide."))
    elif found:
        best = ranked(results, found)[0]
        told += [_margin(results, found), _when(results, *best), *_edges(axes, best[1]), *_longer(results, *best)]
    return [*told, *_failures(results)]


def _margin(results: SweepResults, found: Scored) -> Finding:
    metric = results.objective.metrics[0]
    scores = [float(result.metrics[metric]) for _, result in ranked(results, found)]
    once = "Each configuration was run once, so run-to-run noise is not known"
    if len(scores) < 2:
        return Finding(False, f"Only one trial has reported {metric}: there is nothing to compare it with.")
    spread = max(scores) - min(scores)
    close = sum(abs(value - scores[0]) <= CLOSE * spread for value in scores[1:])
    stopped = results.state.count("stopped")
    judged = f" ({stopped} of them stopped early, and judged by what they had reached)" if stopped else ""
    margin = f"The best {metric} is {abs(scores[0] - scores[1]):.3g} ahead of the next of {len(scores)} trials{judged}"
    if close:
        near = "1 other trial is" if close == 1 else f"{close} other trials are"
        return Finding(False, f"{margin}, and {near} within 1 % of the spread. {once}: they may be as good.")
    return Finding(True, f"{margin}, more than 1 % of the spread of all. {once}: train the best few with other seeds.")


def _when(results: SweepResults, trial: TrialRecord, result: Result) -> Finding:
    ids = list(results.state.trials)
    place, count = ids.index(trial.id) + 1, len(ids)
    if place > LATE * count and count > 4:
        return Finding(False, f"The best trial came late, {place} of {count}: more trials may find a better one.")
    return Finding(True, f"The best trial was number {place} of {count}; none after it was better.")


def _edges(axes: list[Axis], result: Result) -> list[Finding]:
    """Parameters whose best value lies at the end of their range."""
    found = []
    for axis in axes:
        distribution = axis.distribution
        if not isinstance(distribution, FloatDistribution | IntDistribution) or not axis.is_in(result.config):
            continue
        value, low, high = axis.value_in(result.config), float(distribution.low), float(distribution.high)
        if low == high or not is_number(value):
            continue
        place = _place(float(value), low, high, bool(distribution.log))
        if place <= EDGE or place >= 1 - EDGE:
            end = "lower" if place <= EDGE else "upper"
            found.append(
                Finding(
                    False,
                    f"{axis.name} = {value:.4g} lies at the {end} end of its range, {low:.4g} to {high:.4g}:"
                    " a wider range may be better.",
                )
            )
    return found


def _place(value: float, low: float, high: float, log: bool) -> float:
    """Where in its range a value is, from 0 to 1, on the scale on which it is sampled."""
    if log and low > 0 and value > 0:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def _longer(results: SweepResults, trial: TrialRecord, result: Result) -> list[Finding]:
    most = int(results.spec.get("max_iterations") or 1)
    if most < 3 or not trial.last:
        return []
    if result.iteration == trial.last.iteration:
        return [Finding(False, f"The best trial was still getting better at its last iteration, {result.iteration}.")]
    return [
        Finding(
            True,
            f"The best trial was best at iteration {result.iteration}, and not at its last, {trial.last.iteration}.",
        )
    ]


def _failures(results: SweepResults) -> list[Finding]:
    trials = list(results.state.trials.values())
    failed = sum(trial.failed for trial in trials)
    if failed:
        return [
            Finding(False, f"{failed} of {len(trials)} trials failed for good: what they would have given is unknown.")
        ]
    return [Finding(True, "No trial failed for good.")] if trials else []


def points(results: SweepResults, best: dict[str, Any] | None) -> str:
    """The best configurations as a file for `--points`: of one metric the best, of several the front."""
    shown = [best] if results.objective.single else results.front
    return json.dumps([{"config": each["config"]} for each in shown if each], indent=2)


def next_steps(results: SweepResults, best: dict[str, Any] | None, storage: str, brief: bool = False) -> list[Step]:
    """The commands to go on with.

    Args:
        results: the sweep.
        best: its best trial, of a single metric.
        storage: that it is in, as `--storage` takes it.
        brief: whether the page lacks the importance of the parameters.
    """
    name, where = str(results.spec["name"]), f"--storage {shlex.quote(storage)}"
    samples = int(results.spec.get("samples") or 0)
    steps = []
    if results.state.status == "running" or brief:
        what = "Add the importance of the parameters" if brief else "Write this page anew"
        steps.append(Step(what, f"raysweep report {name} {where}"))
    if best and best["checkpoint"]:
        steps.append(Step("Predict with the best checkpoint", f"raysweep predict {name} {where} --array inputs.npy"))
    if best and not _open(results) and not _changed(results):
        verify = f"raysweep verify {name} --top 3 --seeds 5 {where}"
        steps.append(Step("Train the best three again with five fresh seeds, and score the test part", verify))
    if _open(results):
        steps.append(
            Step("Finish the trials that are left: the command of the sweep, and", f"--name {name} --resume auto")
        )
    elif not _synchronous(results) and samples:
        more = f"--name {name} --resume auto --samples {2 * samples}"
        steps.append(Step("Extend it with as many trials again: the command of the sweep, and", more))
    file = shlex.quote(f"{results.url}/best.json") if "://" not in results.url else "best.json"
    steps.append(Step("Start another sweep from the best configuration: its command, and", f"--points {file}"))
    if any(trial.failed for trial in results.state.trials.values()):
        steps.append(
            Step(
                "Try the failed trials again: the command of the sweep, and",
                f"--name {name} --resume auto --retry failed",
            )
        )
    steps.append(Step("All trials in the terminal", f"raysweep results {name} {where}"))
    return steps


def _open(results: SweepResults) -> bool:
    return results.state.status != "ended" and bool(results.state.trials)


def _changed(results: SweepResults) -> bool:
    """Whether trials changed their configurations, so that none of them can be trained again by itself."""
    return any(trial.donors for trial in results.state.trials.values())


def _synchronous(results: SweepResults) -> bool:
    """Whether the strategy compares all its trials with each other, so that none can be added."""
    return any(event.get("together") for event in results.state.events or [] if event["type"] == "start")


def seconds(value: float) -> str:
    """A duration as people say it."""
    if value < 120:
        return f"{value:.3g} s"
    if value < 2 * 3600:
        return f"{value / 60:.1f} min"
    return f"{value / 3600:.1f} h" if value < 48 * 3600 else f"{value / 86400:.1f} d"


def best_rows(results: SweepResults, found: Scored, count: int) -> list[dict[str, Any]]:
    """The best trials for a table: id, status, values, iteration, seconds, configuration."""
    metrics = results.objective.metrics
    return [
        {
            "trial": trial.id,
            "status": trial.status,
            "values": [shown.metrics[metric] for metric in metrics],
            "iteration": shown.iteration,
            "seconds": trial.last.metrics.get(TIME_TOTAL_S) if trial.last else None,
            "config": shown.config,
        }
        for trial, shown in ranked(results, found)[:count]
    ]
