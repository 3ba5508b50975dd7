"""Configurations timed in real processes of trials, and what a check says of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ray import tune

import raysweep
from raysweep.driver import check as checking
from raysweep.driver.runner import Runner
from raysweep.errors import SweepFailed
from raysweep.history.cost import Rate
from raysweep.spec.flags import Flags
from raysweep.spec.prices import FILE
from raysweep.spec.sweep import NoKnobs, Sweep, settle, strategy
from raysweep.spec.task import Task
from tests.loop.sweeps import config_of

MIB = 2**20
SLEEP = {"short": 0.1, "long": 0.4}
SPACE = {"size": tune.choice(list(SLEEP)), "x": tune.uniform(0.0, 1.0)}


def train(config: dict[str, Any]) -> None:
    """Half a second to set up, then so many seconds an iteration; the long one needs more memory."""
    time.sleep(0.5)
    block = np.ones((300 if config["size"] == "long" else 1) * MIB, np.uint8)
    for iteration in raysweep.iterations():
        time.sleep(SLEEP[config["size"]])
        raysweep.report({"loss": config["x"] + float(block[0]) / iteration}, state=iteration)


def failing(config: dict[str, Any]) -> None:
    raise ValueError(f"no {config['size']} one")


def runner(storage: str, function: Any = train, most: int = 10, **flags: Any) -> Runner:
    task = Task("sleeps", function, SPACE, "loss", "min", most)
    settings = Flags(task="sleeps", storage=storage, name="s", **{"samples": 6, **flags})
    sweep = settle(settings, "random_search", task, ())
    return Runner(strategy("random_search"), sweep, settings, NoKnobs(), tune.TuneConfig(), None)  # type: ignore[arg-type]


@pytest.fixture
def quick(private_ray: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A project of its own, and a check of few configurations."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checking, "DRAWS", 3)
    return


def config(sweep: Sweep) -> tune.TuneConfig:
    return config_of(dataclasses.replace(sweep, strategy="random_search"))


def test_seconds_and_memory_are_those_of_the_function(quick: None, storage: str) -> None:
    measured = checking._measure(runner(storage, concurrency=1))
    assert len(measured.timed) == 5
    for timed in measured.timed:
        own = SLEEP[timed.config["size"]]
        assert len(timed.seconds) == 2
        assert timed.seconds[0] > own + 0.5, "with the setting up"
        assert timed.seconds[1] > own
        assert timed.checkpoint > 0
    assert [timed.fresh for timed in measured.timed] == [True, False, False, False, False]
    short, long = measured.extremes
    assert (short.config["size"], long.config["size"]) == ("short", "long")
    # Processes are used again, so only the peak of the first ones says what a short one needs.
    assert max(usage.own for usage in long.usages) > 300 * MIB
    assert measured.seconds.setup > 0.4
    assert measured.seconds.pace.what_matters["size"] > 1.5
    assert not list(Path(storage).glob("*")), "nothing is left"


def test_what_is_said_has_the_time_and_the_money(
    quick: None, storage: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / FILE).write_text("node_hour: 3600\ncurrency: CHF")
    one = runner(storage, most=1, concurrency=1)
    rate = one.rate
    assert isinstance(rate, Rate)
    assert (rate.nodes, rate.sweep_hour, rate.places) == (1, 3600.0, one.places)
    checking.check(one, config)
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line[0] != " ")
    assert lines["measured"].startswith("5 configurations, 1 iterations each, 1 at a time, in ")
    assert lines["iterations"].startswith("6 [6, 6] of 6")
    assert "simulated sweeps" in lines["time"]
    cost = float(lines["cost"].split()[0].replace(",", ""))
    assert cost > 6 * (0.5 + 0.1), "each second costs one"
    assert lines["cost"].endswith("at 3600 CHF a node-hour")


def test_a_trial_that_fails_ends_the_check_with_its_error(quick: None, storage: str) -> None:
    with pytest.raises(
        SweepFailed, match=r"a timed trial failed \(exception\) with .*\n[^$]*ValueError: no (short|long) one"
    ):
        checking.check(runner(storage, failing), config)
    assert not list(Path(storage).glob("*"))


def test_what_does_not_fit_is_no_success(
    quick: None, storage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysweep.driver.fit.USABLE", 1e-9)
    with pytest.raises(SweepFailed, match="not one fits"):
        checking.check(runner(storage, most=1, concurrency=1), config)
    assert "by 20 simulated sweeps" in capsys.readouterr().out, "what is known is told"


def test_the_age_is_that_of_the_program() -> None:
    assert checking.age() >= time.time() - psutil.Process().create_time() - 0.1
