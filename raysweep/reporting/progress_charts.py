"""The charts of how a sweep came to its best trial: best so far, learning curves, rungs, and the Pareto front."""

from __future__ import annotations

import itertools
import random
from typing import Any

from raysweep.history.results import Objective, SweepResults
from raysweep.history.sweep_state import TrialRecord
from raysweep.reporting.chart import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Chart,
    axis,
    evenly,
    logarithmic,
    number,
    numbers,
    text,
)
from raysweep.reporting.ledger import Ledger, Rung
from raysweep.reporting.scores import Scored, ranked, sign_of
from raysweep.values import is_number

Share = dict[str, float]
CURVES, EXTREMES = 60, 10  # learning curves that are drawn; of these the best, and as many of the worst
POINTS = 200  # of a line


def best_so_far(results: SweepResults, ledger: Ledger, share: Share, found: Scored) -> list[Chart]:
    """The best value against trials, wall time, and the time of CPUs or GPUs; of several metrics, of the first one."""
    metric, sign = results.objective.metrics[0], sign_of(results.objective)
    numbers_of = {id: n for n, id in enumerate(results.state.trials, start=1)}
    by_trial = _improvements([(numbers_of[trial.id], best.metrics[metric]) for trial, best in found], sign)
    reports = [each for each in ledger.reports if is_number(each.metrics.get(metric))]
    unit, per_second = cost_unit(share)
    by_wall = _improvements([(each.wall, each.metrics[metric]) for each in reports], sign)
    by_cost = _improvements([(each.work * per_second, each.metrics[metric]) for each in reports], sign)
    return [
        _best_chart("best-trials", "by trials", "trials", metric, by_trial, len(numbers_of)),
        _best_chart("best-wall", "by time", "seconds of the sweep", metric, by_wall, ledger.wall),
        _best_chart("best-cost", f"by {unit}", unit, metric, by_cost, ledger.work * per_second),
    ]  # fmt: skip


def cost_unit(share: Share) -> tuple[str, float]:
    """What a trial occupies: its GPUs, or else its CPUs; the name of the unit, and how many of it each second has."""
    workers = share.get("workers", 1)
    gpus = share.get("gpus", 0.0) * workers
    return ("GPU-seconds", gpus) if gpus else ("CPU-seconds", share.get("cpus", 1.0) * workers)


def _improvements(points: list[tuple[float, float]], sign: int) -> list[tuple[float, float]]:
    """The points at which the best value changed."""
    kept: list[tuple[float, float]] = []
    for x, y in points:
        if not kept or sign * y > sign * kept[-1][1]:
            kept.append((x, y))
    return kept


def _best_chart(id: str, title: str, x: str, metric: str, points: list[tuple[float, float]], end: float) -> Chart:
    xs, ys = [number(p[0]) for p in points], [number(p[1]) for p in points]
    if points:
        xs, ys = [*xs, number(end)], [*ys, ys[-1]]
    line = {"type": "scatter", "mode": "lines", "x": xs, "y": ys, "line": {"shape": "hv", "color": BLUE, "width": 2.5}}
    marks = {"type": "scatter", "mode": "markers", "x": xs[:-1], "y": ys[:-1], "marker": {"color": BLUE, "size": 7}}
    caption = f"The best {metric} so far, {title}."
    if points:
        caption += f" It last got better at {points[-1][0]:.4g} of {end:.4g} {x}."
    layout = {"xaxis": axis(x, rangemode="tozero"), "yaxis": axis(metric), "showlegend": False}
    return Chart(id, f"Best so far, {title}", caption, [line, marks], layout, 280, wide=False)


def learning_curves(results: SweepResults, found: Scored) -> Chart | None:
    """The metric by iteration: of many trials only the best, the worst and a sample between them."""
    metric, mode = results.objective.metrics[0], results.objective.modes[0]
    drawn = [trial for trial, _ in ranked(results, found)]
    if not any(len(trial.results) > 1 for trial in drawn):
        return None
    kept = drawn
    if len(drawn) > CURVES:
        between = random.Random(0).sample(drawn[EXTREMES:-EXTREMES], CURVES - 2 * EXTREMES)
        kept = [*drawn[:EXTREMES], *between, *drawn[-EXTREMES:]]
    first = kept[0]
    groups = (
        ("stopped early", ORANGE, [each for each in kept[1:] if each.status == "stopped"]),
        ("failed", RED, [each for each in kept[1:] if each.failed]),
        ("ran to the end, or runs", GREY, [each for each in kept[1:] if each.status != "stopped" and not each.failed]),
    )
    traces = [_curves(name, colour, trials, metric, 1.2, 0.65) for name, colour, trials in groups if trials]
    traces.append(_curves(f"best: trial {first.id}", BLUE, [first], metric, 3, 1.0))
    values = [value for trace in traces for value in trace["y"]]
    said = f"the {EXTREMES} best, the {EXTREMES} worst and {len(kept) - 2 * EXTREMES} others of {len(drawn)} trials"
    caption = (
        f"{metric} by iteration of {said if len(drawn) > CURVES else f'all {len(drawn)} trials that reported it'}."
    )
    layout = {"xaxis": axis("iteration"), "yaxis": axis(metric, logarithmic(values, mode)), "hovermode": "closest"}
    return Chart("curves", "Learning curves", caption, traces, layout, 400)


def _curves(
    name: str, colour: str, trials: list[TrialRecord], metric: str, width: float, opacity: float
) -> dict[str, Any]:
    """Several lines as one trace, with gaps between them: a trace for each would be slow."""
    xs: list[Any] = []
    ys: list[Any] = []
    ids: list[Any] = []
    for trial in trials:
        steps = [
            (n, v)
            for n, result in sorted(trial.results.items())
            if (v := number(result.metrics.get(metric))) is not None
        ]
        steps = evenly(steps, POINTS)
        xs += [*(n for n, _ in steps), None]
        ys += [*(value for _, value in steps), None]
        ids += [*([trial.id] * len(steps)), None]
    single = all(len(trial.results) == 1 for trial in trials)
    return {
        "type": "scatter", "mode": "markers" if single else "lines+markers", "name": text(name), "x": xs, "y": ys,
        "text": ids,
        "line": {"color": colour, "width": width}, "marker": {"color": colour, "size": 4 if width < 2 else 6},
        "opacity": opacity, "hovertemplate": "trial %{text}<br>iteration %{x}: %{y}<extra></extra>",
    }  # fmt: skip


def rungs_chart(results: SweepResults, found: list[Rung]) -> Chart | None:
    """Who was stopped at which rung, with which value, and who went on."""
    if not found:
        return None
    metric = results.objective.metrics[0]
    gone_on: Scored = []
    stopped: Scored = []
    for rung in found:
        here = {trial.id for trial in rung.stopped}
        for trial in results.state.trials.values():
            result = trial.results.get(rung.iteration)
            if result and is_number(result.metrics.get(metric)):
                (stopped if trial.id in here else gone_on).append((trial, result))
    traces = [
        _at_rungs("went on", GREEN, "circle", gone_on, metric),
        _at_rungs("stopped here", ORANGE, "x", stopped, metric),
    ]
    count = sum(len(rung.stopped) for rung in found)
    caption = f"{metric} of each trial at each rung: the scheduler stopped {count} trials at {len(found)} rungs."
    levels = [str(rung.iteration) for rung in found]
    values = [value for trace in traces for value in trace["y"]]
    layout = {
        "xaxis": axis("rung: iteration", type="category", categoryorder="array", categoryarray=levels),
        "yaxis": axis(metric, logarithmic(values, results.objective.modes[0])), "hovermode": "closest",
    }  # fmt: skip
    return Chart("rungs", "Rungs: who was stopped where", caption, traces, layout, 340)


def _at_rungs(name: str, colour: str, symbol: str, points: Scored, metric: str) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": [str(result.iteration) for _, result in points],
        "y": numbers(result.metrics[metric] for _, result in points), "text": [trial.id for trial, _ in points],
        "marker": {"color": colour, "symbol": symbol, "size": 9, "opacity": 0.75},
        "hovertemplate": f"trial %{{text}} {name}: %{{y}}<extra></extra>",
    }  # fmt: skip


def pareto(results: SweepResults, points: Scored) -> list[Chart]:
    """For each pair of metrics, all trials and those on the front of all metrics."""
    objective = results.objective
    if objective.single:
        return []
    front = {shown["trial"] for shown in results.front}
    return [
        _pair(f"pareto-{n}", objective, pair, points, front)
        for n, pair in enumerate(itertools.combinations(range(len(objective.metrics)), 2))
    ]


def _pair(id: str, objective: Objective, pair: tuple[int, int], points: Scored, front: set[str]) -> Chart:
    one, other = (objective.metrics[n] for n in pair)
    on_front = sorted((p for p in points if p[0].id in front), key=lambda p: float(p[1].metrics[one]))
    dominated = [p for p in points if p[0].id not in front]
    two = len(objective.metrics) == 2
    traces = [
        _objectives("dominated", GREY, dominated, one, other, "markers"),
        _objectives("Pareto front", BLUE, on_front, one, other, "lines+markers" if two else "markers"),
    ]
    better = {"max": "more", "min": "less"}
    caption = f"{len(on_front)} of {len(points)} trials are on the front: no other one is better in every metric."
    titles = [f"{objective.metrics[n]} ({better[objective.modes[n]]} is better)" for n in pair]
    logs = [logarithmic((number(p[1].metrics[objective.metrics[n]]) for p in points), objective.modes[n]) for n in pair]
    layout = {"xaxis": axis(titles[0], logs[0]), "yaxis": axis(titles[1], logs[1]), "hovermode": "closest"}
    return Chart(id, f"Pareto front: {one} and {other}", caption, traces, layout, 420)


def _objectives(name: str, colour: str, points: Scored, one: str, other: str, mode: str) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": mode, "name": name, "text": [trial.id for trial, _ in points],
        "x": numbers(result.metrics[one] for _, result in points),
        "y": numbers(result.metrics[other] for _, result in points),
        "marker": {"color": colour, "size": 9 if colour == BLUE else 7}, "line": {"color": colour, "dash": "dot"},
        "hovertemplate": "trial %{text}<br>%{x}, %{y}<extra></extra>",
    }  # fmt: skip
