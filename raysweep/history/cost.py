"""What a sweep costs: the seconds of its journal times the prices that its driver found.

A rented node costs as long as the sweep runs, whatever runs on it; a shared cluster charges what trials have while they
run. The cost of a trial has both: its own hours, and its part of the nodes, which is that of one of the places that
they have for trials. What the trials have not used of the nodes is the cost of idle places.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raysweep.spec.prices import Prices

HOUR_S = 3600.0
MOST_DIGITS = 9  # behind the point


@dataclass(frozen=True)
class Rate:
    """What a sweep costs by the hour.

    Attributes:
        prices: of machines.
        nodes: that have room for trials.
        places: trials for which they have room, all together.
        cpus: of a trial, those of all its workers.
        gpus: the same.
    """

    prices: Prices
    nodes: int
    places: int
    cpus: float
    gpus: float

    @property
    def trial_hour(self) -> float:
        """What a running trial costs by the hour, beside the nodes."""
        return self.cpus * self.prices.cpu_hour + self.gpus * self.prices.gpu_hour

    @property
    def sweep_hour(self) -> float:
        """What the nodes cost by the hour."""
        return self.nodes * self.prices.node_hour

    @property
    def place_hour(self) -> float:
        """What a running trial costs by the hour, with its part of the nodes."""
        return self.trial_hour + self.sweep_hour / max(self.places, 1)

    def cost(self, wall: float, work: float) -> float:
        """That of a sweep.

        Args:
            wall: seconds that it has run.
            work: seconds that its trials have run, each counted once.
        """
        return (wall * self.sweep_hour + work * self.trial_hour) / HOUR_S

    def note(self) -> dict[str, Any]:
        """What the journal has of it, beside the resources of a trial."""
        return {**vars(self.prices), "nodes": self.nodes, "places": self.places}


def noted(note: Mapping[str, Any], share: Mapping[str, float]) -> Rate:
    """The rate that a driver has noted in its journal.

    Args:
        note: see `Rate.note`.
        share: the resources of a trial: `cpus` and `gpus` of each of its `workers`.
    """
    prices = {name: note[name] for name in vars(Prices()) if name in note}
    workers = share.get("workers", 1)
    cpus, gpus = (share.get(kind, 0.0) * workers for kind in ("cpus", "gpus"))
    return Rate(Prices(**prices), int(note.get("nodes", 1)), int(note.get("places", 1)), cpus, gpus)


@dataclass(frozen=True)
class Costs:
    """The costs of a sweep, in the currency of its prices.

    Attributes:
        total: of all.
        trials: trial -> its cost, with what it lost in failures.
        failures: of what failures have wasted; in those of the trials.
        saved: what the trials that the scheduler stopped would have cost more, an estimate; not in the total.
        idle: of places in which no trial ran; zero without a price of nodes.
    """

    total: float
    trials: dict[str, float]
    failures: float
    saved: float
    idle: float


def costs(rate: Rate, wall: float, worked: Mapping[str, float], lost: float, spared: float) -> Costs:
    """What a sweep has cost; all times are seconds.

    Args:
        rate: of its prices.
        wall: that its drivers ran.
        worked: trial -> that it ran, what it lost included.
        lost: that failures have wasted.
        spared: that stopped trials would have run longer.
    """
    total = rate.cost(wall, sum(worked.values()))
    trials = {trial: seconds * rate.place_hour / HOUR_S for trial, seconds in worked.items()}
    return Costs(
        total=total,
        trials=trials,
        failures=lost * rate.place_hour / HOUR_S,
        saved=spared * rate.place_hour / HOUR_S,
        idle=max(total - sum(trials.values()), 0.0),
    )


def money(amount: float, currency: str) -> str:
    """An amount with its currency: to hundredths, or two digits of what is less than one."""
    digits = 2 if amount >= 1 or amount <= 0 else min(1 - math.floor(math.log10(amount)), MOST_DIGITS)
    return f"{amount:,.{digits}f} {currency}"
