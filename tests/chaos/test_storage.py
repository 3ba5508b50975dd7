"""Faults of the store, through a proxy in front of a real S3 server; all sweeps run through one outage side by side."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests import s3
from tests.chaos.cell import Verdict
from tests.chaos.conftest import TENTH, Make
from tests.chaos.test_processes import BEFORE, Judge

AWAY_S = 10.0 if TENTH else 60.0
HANGS_S = 10.0 if TENTH else 40.0
EVERY = 7
LIGHT = ("--cpus-per-trial", "0.5")


def through(
    make: Make, strategies: tuple[str, ...], proxy: s3.S3Proxy, fault: Callable[[], None], seconds: float = 0.0
) -> list[Verdict]:
    """Sweeps to one bucket; the fault begins when each has some results, and ends after so many seconds, if any."""
    bucket = proxy.new_bucket()
    cells = [make(strategy, storage=f"{bucket}/runs", flags=LIGHT, pace=0.3).start() for strategy in strategies]
    for cell in cells:
        cell.after(BEFORE // 2)
    fault()
    if seconds:
        time.sleep(seconds)
        proxy.heal()
        for cell in cells:
            cell.heal()
    verdicts = [cell.finish() for cell in cells]
    proxy.heal()
    judged = [cell.verdict() for cell in verdicts]
    for verdict in judged:
        if verdict.failures:
            verdict.problems.append(f"{verdict.failures} trials failed for the store's sake")
    return judged


@pytest.mark.tenth("asha", "pbt")
@pytest.mark.fault("s3-503")
def test_the_store_answers_503(make: Make, strategies: tuple[str, ...], proxy: s3.S3Proxy, judge: Judge) -> None:
    judge(through(make, strategies, proxy, proxy.unavailable, AWAY_S))


@pytest.mark.fault("s3-hangs")
def test_the_store_does_not_answer(make: Make, strategies: tuple[str, ...], proxy: s3.S3Proxy, judge: Judge) -> None:
    judge(through(make, strategies, proxy, proxy.hang, HANGS_S))


@pytest.mark.fault("s3-resets")
def test_the_store_breaks_connections(make: Make, strategies: tuple[str, ...], proxy: s3.S3Proxy, judge: Judge) -> None:
    judge(through(make, strategies, proxy, lambda: proxy.drop_answer("PutObject", nth=0, every=EVERY)))


@pytest.mark.tenth("tpe")
@pytest.mark.fault("s3-refuses")
def test_the_store_refuses_every_seventh_object(
    make: Make, strategies: tuple[str, ...], proxy: s3.S3Proxy, judge: Judge
) -> None:
    judge(through(make, strategies, proxy, lambda: proxy.refuse("PutObject", nth=0, every=EVERY, status=503)))


@pytest.mark.fault("s3-loses")
def test_the_store_loses_every_seventh_state(
    make: Make, strategies: tuple[str, ...], proxy: s3.S3Proxy, judge: Judge
) -> None:
    """It answers 200, and keeps nothing: what plain Ray would not see."""
    judge(through(make, strategies, proxy, lambda: proxy.lose("PutObject", key="state.pkl", nth=0, every=EVERY)))
