"""The charts of the parameters: importance, parallel coordinates, and of each what was sampled and what it gave."""

from __future__ import annotations

import html
import math
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.search.sample import Domain, Float, Integer

from raysweep.history.optuna_export import Axis
from raysweep.history.results import SweepResults
from raysweep.reporting.chart import (
    BLUE,
    GREY,
    LONGEST_LABEL,
    ORANGE,
    SCALE,
    Chart,
    axis,
    evenly,
    logarithmic,
    number,
    numbers,
    short,
    text,
)
from raysweep.reporting.importance import Importances
from raysweep.reporting.scores import Scored, sign_of
from raysweep.values import is_number

BINS, DRAWS = 12, 100_000  # of a histogram; draws of a prior
MOST_DOTS = 2000  # of a slice
MOST_LINES = 1000  # of the parallel coordinates
MOST_PARAMETERS = 24  # with charts of their own
MOST_LABELS = 12  # of the values of a choice along an axis


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
        "type": "scatter", "mode": "markers", "x": numbers(each.share for each in rows), "y": names,
        "name": "importance",
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
        "What decides whether a trial is among the best, by PED-ANOVA, and 90 % bootstrap intervals. Trials are"
        f" compared {where} {found.trials} trials have reached. {sure}"
    )
    layout = {"xaxis": axis("share", tickformat=".0%", range=[-0.02, 1.02]), "yaxis": axis("", type="category")}
    return Chart("importance", "Importance of the parameters", caption, [lines, dots], layout, 150 + 40 * len(rows))


def parallel_coordinates(results: SweepResults, axes: list[Axis], found: Scored) -> Chart | None:
    """All parameters and metrics of each trial as a line."""
    points = evenly(found, MOST_LINES)
    shown = [axis for axis in axes if axis.distribution is not None][:MOST_PARAMETERS]
    if len(points) < 2 or not shown:
        return None
    metrics = results.objective.metrics
    dimensions = [_dimension(each, points) for each in shown]
    dimensions += [
        {"label": short(metric), "values": numbers(r.metrics[metric] for _, r in points)} for metric in metrics
    ]
    # Plotly colours low values with the beginning of a scale; the best lines are to be orange.
    line = {
        "color": dimensions[-len(metrics)]["values"], "colorscale": SCALE,
        "reversescale": sign_of(results.objective) < 0,
    }  # fmt: skip
    trace = {"type": "parcoords", "dimensions": dimensions, "line": line, "labelangle": -20, "labelside": "top"}
    caption = (
        f"{len(points)} trials, each a line: where it is grey its {metrics[0]} is bad, and best where it is orange."
    )
    layout = {"margin": {"t": 90, "l": 90, "r": 70, "b": 30}}
    return Chart(
        "parallel", "Parallel coordinates", caption + " Drag along an axis to pick trials.", [trace], layout, 420
    )


def _dimension(each: Axis, points: Scored) -> dict[str, Any]:
    values: list[Any] = [each.value_in(r.config) if each.is_in(r.config) else None for _, r in points]
    # Plotly takes these labels as plain text, unlike all others.
    label = {"label": short(each.name)}
    if isinstance(each.distribution, CategoricalDistribution):
        return label | {"values": _places(each, values), **_labels(each)}
    if isinstance(each.distribution, FloatDistribution | IntDistribution) and each.distribution.log:
        low, high = math.log10(each.distribution.low), math.log10(each.distribution.high)
        ticks = [low, *range(math.floor(low) + 1, math.ceil(high)), high]
        positive = [value if is_number(value) and value > 0 else None for value in values]
        logs = [None if value is None else math.log10(value) for value in positive]
        texts = [f"{10.0**tick:.3g}" for tick in ticks]
        return label | {"values": numbers(logs), "range": [low, high], "tickvals": ticks, "ticktext": texts}
    return label | {"values": numbers(values)}


def _places(each: Axis, values: list[Any]) -> list[int | None]:
    """The number of each value among the choices; None for one that is not among them, or missing."""
    assert isinstance(each.distribution, CategoricalDistribution)
    internal = each.distribution.to_internal_repr
    return [int(internal(each.shown(value))) if each.takes(value) else None for value in values]


def _labels(each: Axis) -> dict[str, Any]:
    """The ticks of an axis on which a choice is its number: two labels that were shortened alike stay two."""
    assert isinstance(each.distribution, CategoricalDistribution)
    numbered = evenly(list(enumerate(each.distribution.choices)), MOST_LABELS)
    return {"tickvals": [n for n, _ in numbered], "ticktext": [short(choice, LONGEST_LABEL) for _, choice in numbered]}


def _is_log(each: Axis) -> bool:
    return isinstance(each.distribution, FloatDistribution | IntDistribution) and bool(each.distribution.log)


def slices(results: SweepResults, axes: list[Axis], found: Scored) -> list[Chart]:
    """Of each parameter: what was sampled beside what its prior would give, and below the metric of each value."""
    return [
        _slice(n, each, results, found)
        for n, each in enumerate(axes[:MOST_PARAMETERS])
        if each.distribution is not None
    ]


def _slice(n: int, each: Axis, results: SweepResults, found: Scored) -> Chart:
    metric = results.objective.metrics[0]
    sampled = [trial.config for trial in results.state.trials.values() if each.is_in(trial.config)]
    values = [each.value_in(config) for config in sampled]
    density = (
        _choices(each, values) if isinstance(each.distribution, CategoricalDistribution) else _density(each, values)
    )
    points = evenly([pair for pair in found if each.is_in(pair[1].config)], MOST_DOTS)
    xs = [each.value_in(result.config) for _, result in points]
    dots = {
        "type": "scatter", "mode": "markers", "yaxis": "y", "text": [trial.id for trial, _ in points],
        "x": _places(each, xs) if _is_choice(each) else numbers(xs),
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
        "xaxis": axis(each.name, _is_log(each), anchor="y", **_choice_axis(each)),
        "yaxis": axis(metric, logarithmic(ys, results.objective.modes[0]), domain=[0, 0.6]),
        "yaxis2": axis("trials", domain=[0.68, 1], rangemode="tozero", nticks=4), "showlegend": False, "bargap": 0.05,
    }  # fmt: skip
    caption = (
        f"Above, how many of {len(values)} trials had which {each.name} (bars), and how many its prior alone would give"
        f" (dashed). Below, the {metric} of each trial: orange ran longest, grey shortest."
    )
    return Chart(f"slice-{n}", each.name, caption, [*density, dots], layout, 420, wide=False)


def _choice_axis(each: Axis) -> dict[str, Any]:
    if not isinstance(each.distribution, CategoricalDistribution):
        return {}
    ticks = _labels(each)
    texts = [html.escape(label) for label in ticks["ticktext"]]
    return {**ticks, "ticktext": texts, "range": [-0.5, len(each.distribution.choices) - 0.5]}


def _is_choice(each: Axis) -> bool:
    return isinstance(each.distribution, CategoricalDistribution)


def _choices(each: Axis, values: list[Any]) -> list[dict[str, Any]]:
    assert isinstance(each.distribution, CategoricalDistribution)
    taken = [place for place in _places(each, values) if place is not None]
    places = list(range(len(each.distribution.choices)))
    counts = [taken.count(place) for place in places]
    prior = [number(len(taken) / len(places))] * len(places)
    return [
        {"type": "bar", "x": places, "y": counts, "yaxis": "y2", "marker": {"color": BLUE}, "opacity": 0.6,
         "name": "sampled"},
        {"type": "scatter", "mode": "lines+markers", "x": places, "y": prior, "yaxis": "y2", "name": "prior",
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
    low, high, step = float(distribution.low), float(distribution.high), distribution.step
    if low == high:
        edges = np.array([low - 0.5, high + 0.5])
    elif distribution.log:
        edges = np.geomspace(low, high, BINS + 1)
        edges[0], edges[-1] = low, high  # the powers are not exact
    elif step:  # each bin has the same number of values
        values = round((high - low) / step) + 1
        each_has = math.ceil(values / BINS)
        edges = low - step / 2 + step * each_has * np.arange(math.ceil(values / each_has) + 1)
    else:
        edges = np.linspace(low, high, BINS + 1)
    return edges, _prior(each.domain, edges, count)


def _prior(domain: Domain, edges: np.ndarray[Any, Any], count: int) -> list[float] | None:
    """By many draws of Ray's own: it has eight kinds of domains of numbers, each with its own rule at the ends."""
    if not isinstance(domain, Float | Integer):
        return None
    found, _ = np.histogram(domain.sample(size=DRAWS, random_state=0), edges)
    return [float(each * count / DRAWS) for each in found]
