"""Recorded learning curves as outcomes of simulated trials.

A configuration that is not in the table has the curve of its nearest neighbour that is, which Syne Tune's blackbox
repository also offers as a surrogate (https://syne-tune.readthedocs.io). Distances are between parameters scaled to
0 … 1: numbers on their own scale (the logarithm, if they are drawn so), choices of numbers by rank, other choices apart
from each other by 1. An iteration takes the median of the seconds that it took with all seeds of its configuration: the
first trial of a process also imports, and a machine has other work.

Population based training continues a donor's model with a changed configuration, which no table has. Then the metrics
go on at the donor's level, with the increments that the new configuration's own curve has from where it is nearest to
that level, within the range of the table's values. So a schedule of values gains no more than its parts had alone, and
a configuration that would harm a trained model does no harm: what a simulation says about a population is less certain
than what it says about all other strategies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from ray.tune.search.sample import Categorical, Domain, LogUniform
from scipy.spatial import KDTree
from scipy.stats import spearmanr

from raysweep.loop.outcomes import Step
from raysweep.spec.configuration import Choices, Codec, parameters
from raysweep.spec.paths import name_of, value_at
from raysweep.spec.space import scale_of
from raysweep.study.table import CONFIG, METRIC, CurveTable, cell
from raysweep.values import is_number, to_json

Array = np.ndarray[Any, Any]


class Curve(NamedTuple):
    """One recorded curve: its configuration, which of that one's curves it is, metrics and seconds by iteration."""

    configuration: int
    number: int
    metrics: dict[str, Array]
    seconds: Array


class Place(NamedTuple):
    """Where on a curve a simulated trial is: what it saves.

    Attributes:
        configuration: of the curve.
        position: iterations done on it.
        offsets: metric -> what is added to the curve's, after an exploit.
        reported: the metrics so far.
    """

    configuration: int
    position: int
    offsets: dict[str, float]
    reported: dict[str, float]


@dataclass(frozen=True)
class LookupAccuracy:
    """How wrong a looked-up curve is, each configuration left out in turn and looked up in the others.

    Attributes:
        metric: mean absolute error of the best value of a curve, in the metric's own unit.
        noise: the same between two curves of one configuration; NaN if each has only one.
        rank: Spearman's rank correlation of looked-up and recorded best values.
        seconds: mean relative error of a curve's seconds.
    """

    metric: float
    noise: float
    rank: float
    seconds: float


class Curves:
    """The curves of a table, looked up by configuration."""

    def __init__(self, table: CurveTable) -> None:
        self.table, self._codec = table, Codec(table.space)
        self._parameters = {name_of(path): (path, domain) for path, domain in parameters(table.space).items()}
        self._curves: dict[int, list[Curve]] = {}
        points = []
        for _, rows in table.frame.sort_values("iteration").groupby(["configuration", "seed"]):
            number = int(rows["configuration"].iloc[0])
            same = self._curves.setdefault(number, [])
            metrics = {name: rows[METRIC + name].to_numpy(float) for name in table.metrics}
            same.append(Curve(number, len(same), metrics, rows["seconds"].to_numpy(float)))
            if len(same) == 1:
                row = rows.iloc[0]
                flat = {n: cell(domain, row[CONFIG + n]) for n, (_, domain) in self._parameters.items()}
                points.append(self._point(flat))
        self._curves = {number: _with_usual_seconds(same) for number, same in self._curves.items()}
        self._numbers, self._points = list(self._curves), np.array(points)
        self._tree = KDTree(self._points)
        self._known: dict[str, int] = {}
        values = {name: table.frame[METRIC + name] for name in table.metrics}
        self._ranges = {name: (column.min(), column.max()) for name, column in values.items()}

    def __len__(self) -> int:
        """The number of configurations."""
        return len(self._numbers)

    def __iter__(self) -> Iterator[Curve]:
        """All curves."""
        return (curve for same in self._curves.values() for curve in same)

    def of(self, configuration: int) -> Sequence[Curve]:
        """The curves of a configuration, one for each seed."""
        return self._curves[configuration]

    def nearest(self, config: dict[str, Any]) -> int:
        """The number of the recorded configuration that is nearest to one of the space; itself if it is recorded."""
        written = self._codec.write(config)
        key = to_json(written)
        if key not in self._known:
            flat = {name: value_at(written, path) for name, (path, _) in self._parameters.items()}
            self._known[key] = self._numbers[int(self._tree.query(self._point(flat))[1])]
        return self._known[key]

    def within(self, metric: str, value: float) -> float:
        """The value, or the nearest one within the range of what was recorded."""
        return float(np.clip(value, *self._ranges[metric]))

    def _point(self, flat: dict[str, Any]) -> list[float]:
        parts = (_coordinates(domain, flat[name]) for name, (_, domain) in self._parameters.items())
        return [number for part in parts for number in part]

    def best_of(self, curve: Curve) -> float:
        """The best value of a curve; NaN if it has no finite one."""
        values = curve.metrics[self.table.metric]
        finite = values[np.isfinite(values)]
        return float(finite.max() if self.table.mode == "max" else finite.min()) if finite.size else float("nan")

    def accuracy(self) -> LookupAccuracy:
        """The error of the look-up by leave-one-out; needs two configurations."""
        neighbours = self._tree.query(self._points, k=2)[1]
        others = [int(pair[1] if pair[0] == own else pair[0]) for own, pair in enumerate(neighbours)]
        best = [[self.best_of(curve) for curve in self._curves[number]] for number in self._numbers]
        means = np.array([np.mean(values) for values in best])
        seconds = np.array([np.mean([curve.seconds.sum() for curve in self._curves[n]]) for n in self._numbers])
        told = np.isfinite(means) & np.isfinite(means[others])
        pairs = [abs(v[0] - v[1]) for v in best if len(v) > 1 and np.isfinite(v[:2]).all()]
        return LookupAccuracy(
            metric=float(np.mean(np.abs(means - means[others])[told])),
            noise=float(np.mean(pairs)) if pairs else float("nan"),
            rank=float(spearmanr(means[told], means[others][told]).statistic),
            seconds=float(np.mean(np.abs(seconds[others] / seconds - 1))),
        )


def _with_usual_seconds(same: Sequence[Curve]) -> list[Curve]:
    """The curves of a configuration, each with the median seconds of all: one of them may have waited for others."""
    longest = max(len(curve.seconds) for curve in same)
    padded = [np.pad(curve.seconds, (0, longest - len(curve.seconds)), constant_values=np.nan) for curve in same]
    usual = np.nanmedian(padded, axis=0)
    return [curve._replace(seconds=usual[: len(curve.seconds)]) for curve in same]


def _coordinates(domain: Domain, value: Any) -> list[float]:
    """A written value as numbers between 0 and 1."""
    if isinstance(domain, Categorical):
        written = Choices(domain.categories).written
        if all(is_number(each) and not isinstance(each, bool) for each in written):
            ranked = sorted(set(written))
            return [ranked.index(value) / max(len(ranked) - 1, 1)]
        return [(each == value) / np.sqrt(2) for each in written]
    lower, upper = getattr(domain, "lower", None), getattr(domain, "upper", None)
    if lower is None or upper is None or not np.isfinite([lower, upper]).all():  # normally distributed
        scale = scale_of(domain)
        return [(value - scale.mean) / (4 * scale.sd) + 0.5]
    if isinstance(scale_of(domain), LogUniform):
        lower, upper, value = np.log([lower, upper, value])
    return [float((value - lower) / (upper - lower))]


class Replay:
    """The outcomes of one simulated sweep. Which seed's curve a configuration has is the same for all strategies.

    Args:
        curves: of the table.
        seed: of the sweep: which of the recorded seeds a configuration is given.
        saves: whether trials save their places, to go on from.
    """

    def __init__(self, curves: Curves, seed: int, saves: bool) -> None:
        self._curves, self._seed, self._saves = curves, seed, saves

    def __call__(self, trial: str, config: dict[str, Any], iteration: int, state: Place | None) -> Step:
        """The next iteration of a trial, see `loop.outcomes.Outcome`."""
        curve = self._curve(config)
        before = Place(curve.configuration, iteration - 1, {}, {}) if state is None else self._moved(curve, state)
        row = min(before.position, len(curve.seconds) - 1)
        metrics = {name: float(values[row]) for name, values in curve.metrics.items()}
        if before.offsets:
            metrics = {name: self._curves.within(name, value + before.offsets[name]) for name, value in metrics.items()}
        after = Place(curve.configuration, before.position + 1, before.offsets, metrics)
        return Step(metrics, float(curve.seconds[row]), after if self._saves else None)

    def _curve(self, config: dict[str, Any]) -> Curve:
        number = self._curves.nearest(config)
        same = self._curves.of(number)
        return same[int(np.random.default_rng([self._seed, number]).integers(len(same)))]

    def _moved(self, curve: Curve, state: Place) -> Place:
        """The place on a curve that goes on from a saved one: on the same curve, or on another at the same level."""
        if state.configuration == curve.configuration:
            return state
        metric = self._curves.table.metric
        distances = np.abs(curve.metrics[metric] - state.reported[metric])
        if not np.isfinite(distances).any():
            return Place(curve.configuration, state.position, {}, state.reported)
        nearest = int(np.nanargmin(distances))
        offsets = {name: state.reported[name] - float(values[nearest]) for name, values in curve.metrics.items()}
        return Place(curve.configuration, nearest + 1, offsets, state.reported)
