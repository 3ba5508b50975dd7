"""One look at a sweep, as it stands in a terminal."""

from __future__ import annotations

import io
import re
from typing import Any

from rich.console import Console

from raysweep.history.live import Live
from raysweep.viewing.frame import frame
from raysweep.viewing.tally import Driver, Tally
from tests.viewing.growing import complete, failure, result, start, suggest, told

LIVE = Live(1, 1012.0, 40, 4, 3, 1, 2, 130.0)
EVENTS = [
    start(time=1000.0), suggest(0, lr=0.1), suggest(1, lr=0.25), suggest(2), suggest(3),
    result(0, 1, 0.5, time=1002.0), result(1, 1, 0.87654321, time=1004.0), result(2, 1, 0.1, time=1010.0),
    complete(0, "stopped"), failure(2, "ValueError: no"), complete(2, "failed"),
]  # fmt: skip


def shown(tally: Tally, driver: Driver = Driver.RUNS, live: Live | None = LIVE, **more: Any) -> str:
    """The frame without a terminal, each run of blanks as one."""
    out = io.StringIO()
    Console(file=out, width=200).print(frame(tally, driver, live, **more))
    return re.sub(" +", " ", out.getvalue())


def test_a_running_sweep() -> None:
    lines = shown(told(*EVENTS)).splitlines()
    assert [line.rstrip() for line in lines] == [
        "mine · asha · digits · running · last event 1970-01-01 00:16:51 UTC",
        "trials 2 of 40 ended · 1 stopped · 1 failed · 1 running · 1 pending",
        "best accuracy 0.876543, trial 00001, iteration 1",
        " lr=0.25",
        "results 3 in 00:11 · 0.25 a second in the last 60 s · 0.273 a second on average",
        "ETA 02:10",
        "places 3 of 4 busy on 2 nodes · 1 starting",
        "failures 1",
        " 00002 exception ValueError: no",
    ]


def test_a_sweep_that_has_ended_has_neither_places_nor_an_estimate() -> None:
    text = shown(told(*EVENTS, {"type": "end", "status": "interrupted"}), Driver.GONE)
    assert "mine · asha · digits · interrupted" in text
    assert "2 of 4 ended" in text
    assert not re.search("ETA|places|in the last", text)


def test_a_sweep_without_a_driver_says_so() -> None:
    text = shown(told(*EVENTS), Driver.SILENT)
    assert "· without a driver ·" in text
    assert "ETA" not in text


def test_nothing_is_made_up_before_there_is_something() -> None:
    text = shown(told(start()), live=None)
    assert "0 of 0 ended" in text
    assert "no trial has reported accuracy yet" in text
    assert "ETA --:--" in text
    assert "places not known yet" in text


def test_several_metrics_have_a_front() -> None:
    both = [{"accuracy": 0.5, "size": 1.0}, {"accuracy": 0.6, "size": 2.0}, {"accuracy": 0.4, "size": 3.0}]
    events = [each for n, m in enumerate(both) for each in (suggest(n), {**result(n, 1, 0.0), "metrics": m})]
    assert "Pareto front 2 trials, by accuracy, size" in shown(
        told(*events, metrics=["accuracy", "size"], modes=["max", "min"])
    )


def test_what_a_user_writes_neither_is_markup_nor_moves_the_cursor() -> None:
    evil = "\x1b[2J[red]x[/red]\x07"
    tally = told(start(), suggest(0, lr=evil), result(0, 1, 0.5), failure(0, f"ValueError: {evil}"), task=evil)
    text = shown(tally, note=evil)
    assert text.count("\N{REPLACEMENT CHARACTER}[2J[red]x[/red]\N{REPLACEMENT CHARACTER}") == 4
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)


def test_damage_stands_below() -> None:
    tally = told(start())
    object.__setattr__(tally.sweep, "damage", ("line 3 is no event",))
    assert shown(tally, note="the storage does not answer").splitlines()[-2:] == [
        "line 3 is no event",
        "the storage does not answer",
    ]
