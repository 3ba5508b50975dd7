"""The charts of the parameters: importance, parallel coordinates, and of each what was sampled and what it gave."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.search.sample import Domain, Normal

from raysweep.history.optuna_export import Axis
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import Result, TrialRecord
from raysweep.report.chart import BLUE, GREY, ORANGE, SCALE, Chart, axis, evenly, logarithmic, number, numbers, text
from raysweep.report.importance import Importances
from raysweep.report.progress_charts import sign_of
from raysweep.spec.space import scale_of
from raysweep.values import is_number

BINS = 12  # of a histogram
MOST_DOTS = 2000  # of a slice
MOST_LINES = 1000  # of the parallel coordinates
MOST_PARAMETERS = 24  # with charts of their own
MOST_LABELS = 12  # of the values of a choice along an axis


def scored(results: SweepResults) -> list[tuple[TrialRecord, Result]]:
    """The trials that reported the metric, each with the result that counts: its best, or its last of several metrics."""
    objective = results.objective
    found = []
    for trial in results.state.trials.values():
        shown = trial.best(objective.metrics[0], objective.modes[0]) if objective.single else trial.last_with(objective.metrics)
        if shown:
            found.append((trial, shown))
    return found


def importance_chart(found: Importances | None) -> Chart | None:
    """The importance of each parameter with its interval."""
    if found is None:
        return None
    rows = found.parameters[::-1]
    names = [text(each.name) for each in rows]
    spans: list[Any] = [x for each in rows for x in (number(each.low), number(each.high), None)]
    lines = {
        "type": "scatter", "mode": "lines", "x": spans, "y": [y for name in names for y in (name, name, None)],
        "line": {"color": GREY, "width": 3}, "name": "90 % interval", "hoverinfo": "skip",
    }  # fmt: skip
    dots = {
        "type": "scatter", "mode": "markers", "x": numbers(each.share for each in rows), "y": names, "name": "importance",
        "marker": {"color": BLUE, "size": 12}, "hovertemplate": "%{y}: %{x:.0%}<extra></extra>",
    }  # fmt: skip
    first, second = found.parameters[0], found.parameters[1]
    where = f"at iteration {found.iteration}, which" if found.iteration else "at their end, which"
    sure = (
        f"{first.name} matters most."
        if first.low > second.high
        else "The intervals overlap: which parameter matters most is not known."
    )
    caption = (
        f"What decides whether a trial is among the best, by PED-ANOVA, and 90 % bootstrap intervals. Trials are compared"
        f" {where} {found.trials} trials have reached. {sure}"
    )
    layout = {"xaxis": axis("share", tickformat=".0%", range=[-0.02, 1.02]), "yaxis": axis("", type="category")}
    return Chart("importance", "Importance of the parameters", caption, [lines, dots], layout, 150 + 40 * len(rows))


def parallel_coordinates(results: SweepResults, axes: list[Axis]) -> Chart | None:
    """All parameters and metrics of each trial as a line."""
    points = evenly(scored(results), MOST_LINES)
    shown = [axis for axis in axes if axis.distribution is not None][:MOST_PARAMETERS]
    if len(points) < 2 or not shown:
        return None
    metrics = results.objective.metrics
    dimensions = [_dimension(each, points) for each in shown]
    dimensions += [{"label": text(metric), "values": numbers(r.metrics[metric] for _, r in points)} for metric in metrics]
    # Plotly colours low values with the beginning of a scale; the best lines are to be dark.
    line = {
        "color": dimensions[-len(metrics)]["values"], "colorscale": SCALE, "reversescale": sign_of(results.objective) < 0,
    }  # fmt: skip
    trace = {"type": "parcoords", "dimensions": dimensions, "line": line, "labelangle": -20, "labelside": "top"}
    caption = f"{len(points)} trials: each is a line through its values; the darker, the better its {metrics[0]}."
    layout = {"margin": {"t": 90, "l": 70, "r": 70, "b": 30}}
    return Chart("parallel", "Parallel coordinates", caption + " Drag along an axis to pick trials.", [trace], layout, 420)


def _dimension(each: Axis, points: list[tuple[TrialRecord, Result]]) -> dict[str, Any]:
    values = [each.value_in(result.config) if each.is_in(result.config) else None for _, result in points]
    label = {"label": text(each.name)}
    if isinstance(each.distribution, CategoricalDistribution):
        labels = [text(choice) for choice in each.distribution.choices]
        places = [labels.index(text(each.shown(v))) if v is not None and each.takes(v) else None for v in values]
        return label | {"values": places, "tickvals": evenly(range(len(labels)), MOST_LABELS),
                        "ticktext": evenly(labels, MOST_LABELS)}  # fmt: skip
    if _is_log(each):
        logs = [math.log10(value) if is_number(value) and value > 0 else None for value in values]
        known = [value for value in logs if value is not None] or [0.0]
        ticks = list(range(math.floor(min(known)), math.ceil(max(known)) + 1))
        return label | {"values": numbers(logs), "tickvals": ticks, "ticktext": [f"{10.0**tick:g}" for tick in ticks]}
    return label | {"values": numbers(values)}


def _is_log(each: Axis) -> bool:
    return isinstance(each.distribution, FloatDistribution | IntDistribution) and bool(each.distribution.log)


def slices(results: SweepResults, axes: list[Axis]) -> list[Chart]:
    """Of each parameter: what was sampled beside what its prior would give, and below the metric of each value."""
    return [
        _slice(n, each, results) for n, each in enumerate(axes[:MOST_PARAMETERS]) if each.distribution is not None
    ]


def _slice(n: int, each: Axis, results: SweepResults) -> Chart:
    metric = results.objective.metrics[0]
    sampled = [trial.config for trial in results.state.trials.values() if each.is_in(trial.config)]
    values = [each.value_in(config) for config in sampled]
    density = _choices(each, values) if isinstance(each.distribution, CategoricalDistribution) else _density(each, values)
    points = evenly([pair for pair in scored(results) if each.is_in(pair[1].config)], MOST_DOTS)
    xs = [each.value_in(result.config) for _, result in points]
    dots = {
        "type": "scatter", "mode": "markers", "yaxis": "y", "text": [trial.id for trial, _ in points],
        "x": [text(each.shown(x)) if each.takes(x) else None for x in xs] if _is_choice(each) else numbers(xs),
        "y": numbers(result.metrics[metric] for _, result in points), "name": "a trial",
        "marker": {
            "color": [trial.last.iteration if trial.last else 0 for trial, _ in points], "colorscale": SCALE, "size": 7,
            "opacity": 0.8, "showscale": False,
        },
        "hovertemplate": "trial %{text}<br>%{x}: %{y}<br>%{marker.color} iterations<extra></extra>",
    }  # fmt: skip
    ys = dots["y"]
    assert isinstance(ys, list)
    layout = {
        "xaxis": axis(each.name, _is_log(each), anchor="y", **({"type": "category"} if _is_choice(each) else {})),
        "yaxis": axis(metric, logarithmic(ys), domain=[0, 0.6]),
        "yaxis2": axis("trials", domain=[0.68, 1], rangemode="tozero", nticks=4), "showlegend": False, "bargap": 0.05,
    }  # fmt: skip
    caption = (
        f"Above, how many of {len(values)} trials had which {each.name} (bars), and how many its prior alone would give"
        f" (dashed). Below, the {metric} of each trial; the darker, the more iterations it ran."
    )
    return Chart(f"slice-{n}", each.name, caption, [*density, dots], layout, 420, wide=False)


def _is_choice(each: Axis) -> bool:
    return isinstance(each.distribution, CategoricalDistribution)


def _choices(each: Axis, values: list[Any]) -> list[dict[str, Any]]:
    assert isinstance(each.distribution, CategoricalDistribution)
    labels = [text(choice) for choice in each.distribution.choices]
    taken = [text(each.shown(value)) for value in values if each.takes(value)]
    counts = [taken.count(label) for label in labels]
    prior = [number(len(taken) / len(labels))] * len(labels)
    return [
        {"type": "bar", "x": labels, "y": counts, "yaxis": "y2", "marker": {"color": BLUE}, "opacity": 0.6, "name": "sampled"},
        {"type": "scatter", "mode": "lines+markers", "x": labels, "y": prior, "yaxis": "y2", "name": "prior",
         "line": {"color": ORANGE, "dash": "dash"}, "marker": {"size": 5}},
    ]  # fmt: skip


def _density(each: Axis, values: list[Any]) -> list[dict[str, Any]]:
    """A histogram on the parameter's own scale, as steps, whose widths a logarithmic axis can show."""
    known = [float(value) for value in values if is_number(value)]
    edges, expected = bins(each, len(known))
    counts, _ = np.histogram(known, edges)
    xs = numbers(edges)
    steps = [*map(int, counts), int(counts[-1])]
    traces = [
        {"type": "scatter", "mode": "lines", "x": xs, "y": steps, "yaxis": "y2", "fill": "tozeroy", "name": "sampled",
         "line": {"shape": "hv", "color": BLUE, "width": 1}, "hovertemplate": "from %{x}: %{y} trials<extra></extra>"},
    ]  # fmt: skip
    if expected is not None:
        prior = [*numbers(expected), number(expected[-1])]
        line = {"shape": "hv", "color": ORANGE, "dash": "dash", "width": 1.5}
        traces.append({"type": "scatter", "mode": "lines", "x": xs, "y": prior, "yaxis": "y2", "name": "prior",
                       "line": line, "hovertemplate": "prior: %{y:.1f} trials<extra></extra>"})  # fmt: skip
    return traces


def bins(each: Axis, count: int) -> tuple[np.ndarray[Any, Any], list[float] | None]:
    """The edges of a histogram's bins, and how many of so many draws of the prior fall into each; None if unknown."""
    distribution = each.distribution
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if isinstance(distribution, IntDistribution) and not distribution.log:  # a bin has the same number of values
        width = math.ceil((high - low + 1) / BINS)
        edges = np.arange(low - 0.5, high + 0.5 + width, width)
    elif low == high:
        edges = np.array([low - 0.5, high + 0.5])
    else:
        edges = (np.geomspace if distribution.log else np.linspace)(low, high, BINS + 1)
        edges[0], edges[-1] = low, high  # the powers are not exact
    return edges, _prior(each.domain, edges, count)


def _prior(domain: Domain, edges: np.ndarray[Any, Any], count: int) -> list[float] | None:
    scale = scale_of(domain)
    if isinstance(scale, Normal):
        curve = NormalDist(scale.mean, scale.sd)
        return [count * (curve.cdf(b) - curve.cdf(a)) for a, b in zip(edges, edges[1:], strict=False)]
    low, high = getattr(domain, "lower", None), getattr(domain, "upper", None)
    if low is None or high is None:
        return None
    log = type(scale).__name__ == "LogUniform"
    place = np.log(np.clip(edges, low, high)) if log else np.clip(edges, low, high)
    whole = math.log(high / low) if log else high - low
    return [float(count * part / whole) for part in np.diff(place)]
