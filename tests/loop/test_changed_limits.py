"""Limits that a resume changes: what a dead driver has decided by its own stays decided, and a replay repeats it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from raysweep.loop.assemble import Assembly
from raysweep.loop.controller import Controller
from raysweep.loop.memory_storage import MemoryStorage
from raysweep.loop.scheduler import Scheduler
from raysweep.loop.simulation import Step
from raysweep.spec.flags import Flags
from tests.loop.sweeps import bowl, config_of, events_of, killed_after, run, sweep_of


def journal_of(**flags: Any) -> list[dict[str, Any]]:
    """The journal of ASHA's trials, of which some diverge and some take long, under these limits."""

    def outcome(trial: str, config: dict[str, Any], iteration: int, state: Any) -> Step:
        step = bowl(trial, config, iteration, state)
        diverged = trial in ("00001", "00004") and iteration == 2
        metrics = {"loss": math.nan} if diverged else step.metrics
        return dataclasses.replace(step, metrics=metrics, seconds=1.0 + int(trial))

    storage = MemoryStorage()
    run("asha", outcome, storage=storage, samples=9, places=3, **flags)
    return events_of(storage)


def replayed(events: list[dict[str, Any]], **flags: Any) -> tuple[Any, ...]:
    """What a scheduler knows after a replay under these limits: its rungs, and which trials have ended."""
    sweep = sweep_of("asha", 9)
    assembly = Assembly(config_of(sweep), sweep, Flags(**flags))
    controller = Controller(Scheduler(assembly.scheduler, 0, "min"), assembly.trial_limits, 9)
    controller.replay(events)
    rungs = [(rung, dict(seen)) for bracket in assembly.scheduler._brackets for rung, seen in bracket._rungs]
    return rungs, {name: trial.is_finished() for name, trial in controller.trials.items()}


LIMITS = ({}, {"trial_timeout": 4.5}, {"trial_timeout": 100.0}, {"nan": "worst"}, {"nan": "fail"})


@pytest.mark.parametrize("before", LIMITS, ids=str)
@pytest.mark.parametrize("after", LIMITS, ids=str)
def test_a_replay_decides_as_the_dead_driver_did_whatever_the_limits_are_now(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    events = journal_of(**before)
    for end in range(1, len(events) + 1, 3):
        assert replayed(events[:end], **after) == replayed(events[:end], **before)


def test_a_journal_of_before_is_replayed_with_the_limits_of_now() -> None:
    events = journal_of(trial_timeout=4.5)
    old = [{**event, "stop": True} if "stop" in event else event for event in events]
    assert replayed(old, trial_timeout=4.5) == replayed(events, trial_timeout=4.5)


@pytest.mark.parametrize(("timeout", "stop", "reports"), [(8.0, "limit", 1), (15.0, "", 2)])
def test_an_adopted_result_is_journalled_with_what_the_limits_decided(timeout: float, stop: str, reports: int) -> None:
    def long(trial: str, config: dict[str, Any], iteration: int, state: Any) -> Step:
        return dataclasses.replace(bowl(trial, config, iteration, state), seconds=10.0)

    storage = killed_after(2, "random_search", long, samples=1, trial_timeout=timeout)
    assert [event["type"] for event in events_of(storage)] == ["start", "suggest"]
    state = run("random_search", long, samples=1, trial_timeout=timeout, storage=storage)
    adopted = [event["stop"] for event in events_of(storage) if event.get("adopted")]
    trial = state.trials["00000"]
    assert (adopted, trial.status, len(trial.results)) == ([stop], "stopped", reports)
