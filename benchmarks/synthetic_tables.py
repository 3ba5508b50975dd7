"""Tables of learning curves that are computed, not recorded: to tune rules on some kinds, and judge them on others.

Each kind differs in what makes a strategy's life hard: how long curves are, how noisy, whether good configurations
start slowly, how many parameters matter, and whether there are curves at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from ray import tune

from raysweep.spec.configuration import parameters
from raysweep.spec.paths import name_of
from raysweep.spec.space_file import write
from raysweep.study.table import CONFIG, METRIC, CurveTable

CONFIGURATIONS, SEEDS = 200, 2


@dataclass(frozen=True)
class Kind:
    """What the curves of a table are like.

    Attributes:
        iterations: of a curve.
        noise: the standard deviation of a value around its curve.
        slow: how much slower the best configurations learn: 0 not at all, 1 much.
        numbers: parameters that are numbers, besides a learning rate and a momentum that depend on each other.
        uneven: how much the seconds of two configurations may differ, as a factor.
    """

    iterations: int
    noise: float = 0.003
    slow: float = 0.0
    numbers: int = 1
    uneven: float = 2.0


KINDS = {
    "smooth": Kind(iterations=16),
    "noisy": Kind(iterations=12, noise=0.02),
    "crossing": Kind(iterations=16, slow=1.0),
    "short": Kind(iterations=4),
    "wide": Kind(iterations=10, numbers=6),
    "uneven": Kind(iterations=10, uneven=10.0),
    "one_piece": Kind(iterations=1),
}


def table(name: str, seed: int = 0) -> CurveTable:
    """The table of a kind."""
    kind, random = KINDS[name], np.random.default_rng(seed)
    extra = {f"x{n}": tune.uniform(0.0, 1.0) for n in range(kind.numbers)}
    space: dict[str, Any] = {"lr": tune.loguniform(1e-3, 1.0), "momentum": tune.uniform(0.0, 0.95), **extra}
    space["width"] = tune.choice([32, 64, 128])
    best = random.uniform(0.2, 0.8, kind.numbers)
    rows = []
    for number in range(CONFIGURATIONS):
        config = {name_of(path): _drawn(domain, random) for path, domain in parameters(space).items()}
        for trial_seed in range(SEEDS):
            curve, seconds = _curve(kind, config, best, random)
            rows += [
                {"configuration": number, "seed": trial_seed, "iteration": n + 1, "seconds": seconds}
                | {CONFIG + key: value for key, value in config.items()}
                | {METRIC + "accuracy": value}
                for n, value in enumerate(curve)
            ]
    about = {"task": name, "space": write(space), "mutable": ["lr", "momentum"], "metric": "accuracy", "mode": "max"}
    return CurveTable(pd.DataFrame(rows), about | {"max_iterations": kind.iterations}, space)


def _drawn(domain: Any, random: np.random.Generator) -> Any:
    value = domain.sample(random_state=np.random.RandomState(random.integers(2**31)))
    return value.item() if isinstance(value, np.generic) else value


def _curve(kind: Kind, config: dict[str, Any], best: np.ndarray[Any, Any], random: np.random.Generator) -> Any:
    """A curve that comes exponentially from chance to its own top, and the seconds of an iteration."""
    step = np.log10(config["lr"] / (1 - config["momentum"])) + 0.7
    others = np.array([config[f"x{n}"] for n in range(kind.numbers)]) - best
    bad = 0.05 * step**2 + 0.1 * float(np.mean(others**2)) + 0.01 * (config["width"] == 32)
    top = 0.98 - min(bad, 0.88)
    pace = (0.4 + 0.6 * min(bad / 0.1, 1.0) if kind.slow else 1.0) * 8.0 / max(kind.iterations, 3)
    at = np.arange(1, kind.iterations + 1)
    values = top - (top - 0.1) * np.exp(-pace * at) + random.normal(0.0, kind.noise, kind.iterations)
    return values, 0.1 * kind.uneven ** (config["width"] / 128) * random.uniform(0.9, 1.1)
