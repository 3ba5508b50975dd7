"""The page about strategies: its figures are those of the simulated sweeps, and other libraries learn what happened."""

import re

import numpy as np
import optuna
import pytest

from benchmarks import peers
from benchmarks.which_strategy import UNREACHED, Simulations, measured, page
from raysweep.study import simulator
from raysweep.study.curves import Curves
from tests.study.finished import recorded

PEER = "Optuna TPE, median pruner"
SWEEPS = {"random_search": 6, "asha": 4, PEER: 6}


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    return Curves(recorded(tmp_path_factory.mktemp("sweeps"), samples=20))


@pytest.fixture(scope="module")
def cell(curves):
    return measured("bowl", curves, 5, 2, 6, [contender(name) for name in SWEEPS], fewer={"asha": 4})


def contender(label):
    known = {each.label: each for each in peers.contenders()}
    return known[label] if label in known else simulator.contender(label)


def test_the_figures_of_the_page_are_those_of_the_sweeps(curves, cell):
    text = page([cell], {"bowl": curves})
    at = simulator.conditions(curves, 2, None, 5)
    runs = {
        name: [simulator.run(curves, contender(name), at, seed) for seed in range(count)]
        for name, count in SWEEPS.items()
    }
    best = {name: [run.best[run.seconds <= at.seconds][-1] for run in same] for name, same in runs.items()}
    target, times = np.median(best["random_search"]), {}
    for name, same in runs.items():
        hits = [run.seconds[(run.best <= target) & (run.seconds <= at.seconds)] for run in same]
        times[name] = [hit[0] if len(hit) else UNREACHED * at.seconds for hit in hits]
    for name, count in SWEEPS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        ratio, than_peer, sweeps, reached, mean = re.findall(r"\| ([\d.]+)", row.replace(name, "x"))
        assert float(ratio) == pytest.approx(np.mean(times["random_search"][:count]) / np.mean(times[name]), abs=0.006)
        assert float(than_peer) == pytest.approx(np.mean(times[PEER][:count]) / np.mean(times[name]), abs=0.006)
        assert int(sweeps) == count
        assert float(reached) == round(100 * np.mean(np.array(times[name]) <= at.seconds))
        assert float(mean) == pytest.approx(np.mean(best[name]), abs=6e-5)
    assert "16 simulated\nsweeps" in text
    assert "20 configurations, 3 seeds, 6 iterations" in text
    assert cell.speedups["random_search"] == (1.0, (1.0, 1.0))


def test_a_sweep_is_simulated_once_for_a_table_its_conditions_and_the_file_of_its_strategy(curves, tmp_path):
    asked, simulations = simulator.contender("asha"), Simulations(tmp_path)
    at, other = simulator.conditions(curves, 2, None, 5), simulator.conditions(curves, 4, None, 5)
    first, seconds = simulations(curves, asked, at, 2)
    again, kept = simulations(curves, asked, at, 3)
    assert kept != seconds
    assert [run.seconds.tolist() for run in again.values()][:2] == [run.seconds.tolist() for run in first.values()]
    assert len(list(tmp_path.rglob("output.pkl"))) == 3
    simulations(curves, asked, other, 2)
    assert len(list(tmp_path.rglob("output.pkl"))) == 5
    assert Simulations()(curves, asked, at, 2)[0].keys() == {0, 1}


def test_the_interval_of_a_ratio_covers_what_resampling_by_hand_gives(cell, curves):
    ratio, (low, high) = cell.speedups["asha"]
    assert low <= ratio <= high
    assert low < high


def test_optuna_learns_what_was_reported_and_what_was_pruned(curves, monkeypatch):
    made = []
    real = peers.OptunaPeer.__init__

    def init(self, *arguments):
        real(self, *arguments)
        made.append(self)

    monkeypatch.setattr(peers.OptunaPeer, "__init__", init)
    asked = next(each for each in peers.contenders() if each.label == "Optuna TPE, halving pruner")
    at = simulator.conditions(curves, 2, None, 10)
    run = simulator.run(curves, asked, at, 0)
    trials = made[0]._study.trials
    reported = [value for trial in trials for value in trial.intermediate_values.values()]
    ended = [trial for trial in trials if trial.state.is_finished()]
    complete = [trial for trial in ended if trial.state is optuna.trial.TrialState.COMPLETE]
    assert len(reported) + len(complete) == run.iterations  # the last iteration of a whole trial is its value
    assert min([*reported, *(trial.value for trial in complete)]) == run.best[-1]
    assert sum(trial.state is optuna.trial.TrialState.PRUNED for trial in ended) > len(complete) > 0


def test_syne_tune_stops_trials_and_fills_the_budget(curves):
    pytest.importorskip("syne_tune", reason="Syne Tune is in the dependency group peers: uv sync --group peers")
    at = simulator.conditions(curves, 2, None, 10)
    for asked in (each for each in peers.contenders() if each.label.startswith("Syne Tune")):
        run = simulator.run(curves, asked, at, 0)
        values = curves.table.frame["metric/loss"]
        assert values.min() <= run.best[-1] <= values.max()
        assert run.seconds[-1] > 0.9 * at.seconds
