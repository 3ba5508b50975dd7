"""Money: held against sums by hand, in hours."""

from __future__ import annotations

import json

import pytest

from raysweep.history.cost import Rate, costs, money, noted
from raysweep.spec.prices import Prices

RENTED = Rate(Prices("EUR", node_hour=3.6), nodes=2, places=4, cpus=1.0, gpus=0.0)
SHARED = Rate(Prices("EUR", cpu_hour=0.36, gpu_hour=3.6), nodes=2, places=4, cpus=2.0, gpus=0.5)
WORKED = {"0": 3600.0, "1": 1800.0}


def test_rented_nodes_cost_as_long_as_the_sweep_runs() -> None:
    found = costs(RENTED, 3600.0, WORKED, lost=360.0, spared=7200.0)
    assert found.total == pytest.approx(2 * 3.6)  # two nodes, one hour
    assert found.trials == pytest.approx({"0": 1.8, "1": 0.9})  # an hour of one of four places costs 7.2 / 4
    assert found.idle == pytest.approx(7.2 - 2.7)
    assert found.failures == pytest.approx(0.18)
    assert found.saved == pytest.approx(3.6)


def test_a_shared_cluster_charges_what_trials_have_while_they_run() -> None:
    found = costs(SHARED, 36000.0, WORKED, lost=0.0, spared=0.0)
    hour = 2 * 0.36 + 0.5 * 3.6
    assert found.trials == pytest.approx({"0": hour, "1": hour / 2})
    assert (found.total, found.idle) == pytest.approx((1.5 * hour, 0.0))
    assert (found.failures, found.saved) == (0.0, 0.0)


def test_both_add_up() -> None:
    both = Rate(Prices("EUR", node_hour=3.6, gpu_hour=3.6), nodes=1, places=2, cpus=1.0, gpus=1.0)
    found = costs(both, 3600.0, {"0": 3600.0}, 0.0, 0.0)
    assert (found.total, found.trials["0"], found.idle) == pytest.approx((7.2, 1.8 + 3.6, 1.8))


def test_the_journal_gives_it_back() -> None:
    share = {"cpus": 1.0, "gpus": 0.25, "workers": 2}
    rate = Rate(Prices("USD", 1.0, 0.1, 2.0), nodes=3, places=5, cpus=2.0, gpus=0.5)
    assert noted(json.loads(json.dumps(rate.note())), share) == rate


@pytest.mark.parametrize(
    ("amount", "told"),
    [(1234.5, "1,234.50 EUR"), (2.0, "2.00 EUR"), (0.0, "0.00 EUR"), (0.5, "0.50 EUR"), (0.01234, "0.012 EUR"),
     (0.00012, "0.00012 EUR"), (1e-15, "0.000000000 EUR")],
)  # fmt: skip
def test_small_amounts_keep_two_digits(amount: float, told: str) -> None:
    assert money(amount, "EUR") == told
