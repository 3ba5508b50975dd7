"""How the advice is judged: by median times to the target, counted another way; and the computed tables are tables."""

import numpy as np
import pytest

from benchmarks import advice, synthetic_tables
from raysweep.study import simulator
from raysweep.study.curves import Curves
from raysweep.study.table import load
from tests.study.finished import recorded


def test_a_verdict_compares_median_times_to_what_random_search_reaches(tmp_path):
    curves = Curves(recorded(tmp_path, samples=20))
    asked = ["random_search", "asha", advice.advised(curves, 6, 2)]
    found = advice.judged("bowl", curves, 6, 2, 5, list(dict.fromkeys(asked)))
    at = simulator.conditions(curves, 2, None, 6)
    runs = {k: [simulator.run(curves, simulator.contender(k), at, seed) for seed in range(5)] for k in set(asked)}
    best = {k: [run.best[run.seconds <= at.seconds][-1] for run in same] for k, same in runs.items()}
    target = sorted(best["random_search"])[2]
    for label, same in runs.items():
        hits = [run.seconds[(run.best <= target) & (run.seconds <= at.seconds)] for run in same]
        assert found.times[label] == sorted(hit[0] if len(hit) else np.inf for hit in hits)[2]
    assert found.ratio == found.times[found.advised] / min(found.times.values())
    assert found.right is (found.ratio <= 1.1)


@pytest.mark.parametrize("name", synthetic_tables.KINDS)
def test_a_computed_table_is_one_that_can_be_saved_and_read(name, tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_tables, "CONFIGURATIONS", 6)
    made = synthetic_tables.table(name)
    made.save(tmp_path / "t.parquet")
    read = load(str(tmp_path / "t.parquet"))
    assert read.frame["metric/accuracy"].tolist() == made.frame["metric/accuracy"].tolist()
    assert len(read.frame) == 6 * synthetic_tables.SEEDS * synthetic_tables.KINDS[name].iterations
    assert len(Curves(read)) == 6


def test_all_strategies_that_may_be_named_compete():
    assert {label.split()[0] for label in advice.labels()} == set(advice.STRATEGIES) - set(advice.LEFT_OUT)
