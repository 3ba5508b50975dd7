"""Faults of the store, through a proxy in front of a real S3 server; all sweeps run through one outage side by side."""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable

import pytest

from raysweep.storage import open_storage
from tests import s3
from tests.chaos.cell import Verdict
from tests.chaos.conftest import TENTH, Make
from tests.chaos.test_processes import Judge

AWAY_S = 10.0 if TENTH else 60.0
HANGS_S = 10.0 if TENTH else 40.0
EVERY = 7
# All trials of all sweeps fit at once: those that wait at the gate for the fault keep nobody out.
LIGHT = ("--cpus-per-trial", "0.3")
BEFORE = 2  # results of each sweep


def through(
    make: Make,
    strategies: tuple[str, ...],
    proxy: s3.S3Proxy,
    fault: Callable[[], None],
    seconds: float = 0.0,
    habit: str = "",
) -> list[Verdict]:
    """Sweeps to one bucket; the fault begins when each has some results, and ends after so many seconds, if any."""
    bucket, gate = proxy.new_bucket(), f"gates/{uuid.uuid4().hex}"
    settings = {"storage": f"{bucket}/runs", "flags": LIGHT, "pace": 0.3, "gate": gate, "habit": habit}
    cells = [make(strategy, **settings).start() for strategy in strategies]
    for cell in cells:
        cell.after(BEFORE)
    fault()
    open_storage(cells[0].project.cluster.storage).put(gate, b"")
    if seconds:
        time.sleep(seconds)
        proxy.heal()
        for cell in cells:
            cell.heal()
    verdicts = [cell.finish() for cell in cells]
    proxy.heal()
    judged = [cell.verdict() for cell in verdicts]
    for verdict in judged:
        if seconds and verdict.recovery_s is None:
            verdict.problems.append("it ended before the fault was over")
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


@pytest.mark.fault("folder-refused")
def test_the_store_refuses_every_seventh_file_of_folders(
    make: Make, strategies: tuple[str, ...], proxy: s3.S3Proxy, judge: Judge
) -> None:
    """Whether it is sent or, being the file of the checkpoint before, copied within the store."""

    def refuse() -> None:
        for operation in ("PutObject", "CopyObject"):
            proxy.refuse(operation, nth=0, every=EVERY, status=503)

    judge(through(make, strategies, proxy, refuse, habit="folders"))


@pytest.mark.fault("folder-lost")
def test_the_store_loses_every_seventh_file_of_folders(
    make: Make, strategies: tuple[str, ...], proxy: s3.S3Proxy, judge: Judge
) -> None:
    fault = functools.partial(proxy.lose, "PutObject", key="files/", nth=0, every=EVERY)
    judge(through(make, strategies, proxy, fault, habit="folders"))


@pytest.mark.fault("s3-loses")
def test_the_store_loses_every_seventh_state(
    make: Make, strategies: tuple[str, ...], proxy: s3.S3Proxy, judge: Judge
) -> None:
    """It answers 200, and keeps nothing: what plain Ray would not see."""
    judge(through(make, strategies, proxy, lambda: proxy.lose("PutObject", key="state.pkl", nth=0, every=EVERY)))
