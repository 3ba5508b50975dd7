"""How many seconds an iteration takes, by configuration: a model of those that were timed.

The logarithm of the seconds is linear in the parameters, each scaled to 0 … 1; one that spans a wide range is taken by
its logarithm. With few measurements most coefficients stay near zero: MacKay, Bayesian Interpolation, Neural
Computation 4(3), 1992, as scikit-learn's `BayesianRidge` has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.tune.search.sample import Categorical, Domain, Float, Integer

from raysweep.spec.configuration import Codec, filled, has_domains, parameters
from raysweep.spec.paths import KeyPath, name_of, value_at
from raysweep.spec.space import steps
from raysweep.values import flat, is_number, to_json

WIDE = 4.0  # ratio of the bounds of a parameter, from which on its logarithm is taken
MATTERS = 0.1  # relative change of the seconds over the range of a parameter: less is not told from noise


class Pace:
    """The seconds of an iteration.

    Args:
        space: of Ray's domains.
        pool: configurations of the space, as the journal has them: they say what range each parameter has.
        timed: those that were timed.
        seconds: of each of these.
    """

    def __init__(
        self,
        space: dict[str, Any],
        pool: Sequence[dict[str, Any]],
        timed: Sequence[dict[str, Any]],
        seconds: Sequence[float],
    ) -> None:
        from sklearn.feature_extraction import DictVectorizer
        from sklearn.linear_model import BayesianRidge
        from sklearn.preprocessing import MinMaxScaler

        self._space, self._codec = space, Codec(space)
        self._pool = [flat(config) for config in [*pool, *timed]]
        self._wide = {name for name in {key for config in self._pool for key in config} if self._is_wide(name)}
        self._columns, self._scale = DictVectorizer(sparse=False), MinMaxScaler(clip=True)
        self._scale.fit(self._columns.fit_transform([self._features(config) for config in self._pool]))
        self._model = BayesianRidge()
        self._constant: float | None = None
        logs = np.log(np.maximum(seconds, 1e-6))
        if len(set(seconds)) > 1:
            self._model.fit(self._matrix(timed), logs)
        else:
            self._constant = float(logs[0])

    def _is_wide(self, name: str) -> bool:
        values = [config[name] for config in self._pool if name in config]
        numbers = all(is_number(value) and not isinstance(value, bool) for value in values)
        return numbers and min(values) > 0 and max(values) / min(values) >= WIDE

    def _features(self, config: dict[str, Any]) -> dict[str, float | str]:
        return {name: self._feature(name, value) for name, value in config.items()}

    def _feature(self, name: str, value: Any) -> float | str:
        if name in self._wide and is_number(value) and value > 0:
            return math.log(value)
        return float(value) if is_number(value) else to_json(value)

    def _matrix(self, configs: Sequence[dict[str, Any]]) -> Any:
        return self._scale.transform(self._columns.transform([self._features(flat(config)) for config in configs]))

    def seconds(self, configs: Sequence[dict[str, Any]], deviations: float = 0.0) -> list[float]:
        """The seconds of an iteration of each configuration; so many standard deviations above the expected ones."""
        if self._constant is not None:
            return [math.exp(self._constant)] * len(configs)
        mean, deviation = self._model.predict(self._matrix(configs), return_std=True)
        return [float(each) for each in np.exp(mean + deviations * deviation)]

    @property
    def what_matters(self) -> dict[str, float]:
        """Parameter -> by what factor it changes the seconds over its range, of those that change them at all."""
        if self._constant is not None:
            return {}
        change: dict[str, list[float]] = {}
        for column, coefficient in zip(self._columns.get_feature_names_out(), self._model.coef_, strict=True):
            change.setdefault(str(column).partition("=")[0], []).append(float(coefficient))
        # A number has one column, from 0 to 1; each choice of any other kind has one of its own.
        spans = {name: abs(each[0]) if len(each) == 1 else max(each) - min(each) for name, each in change.items()}
        factors = {name: math.exp(span) for name, span in spans.items()}
        return {name: factor for name, factor in factors.items() if factor >= 1 + MATTERS}

    def extreme(self, config: dict[str, Any], largest: bool) -> dict[str, Any]:
        """A configuration like this one, which has the objects of the space, but as large as the space allows in the
        parameters that change the seconds; or as small.
        """
        matters = self.what_matters
        drawn = parameters(self._space)
        values = {path: value_at(config, path) for path in drawn if _has(config, path)}
        for path in values:
            ends = _ends(drawn[path]) if name_of(path) in matters else []
            tried = [filled(self._space, values | {path: end}) for end in ends]
            if tried:
                seconds = self.seconds([self._codec.write(each) for each in tried])
                values[path] = ends[int(np.argmax(seconds) if largest else np.argmin(seconds))]
        return dict(filled(self._space, values)) if len(values) == len(drawn) else config


def _has(config: dict[str, Any], path: KeyPath) -> bool:
    try:
        value_at(config, path)
    except KeyError:
        return False
    return True


def _ends(domain: Domain) -> list[Any]:
    """Where a parameter may change the seconds most: at its bounds, or with any of its choices."""
    if isinstance(domain, Categorical):
        return [] if any(has_domains(each) for each in domain.categories) else list(domain.categories)
    if not isinstance(domain, Float | Integer) or not math.isfinite(domain.upper - domain.lower):
        return []
    every = steps(domain)
    return [every[0], every[-1]] if every else [domain.lower, domain.upper]
