"""A trial that does not report for too long is detected, and returned once."""

from __future__ import annotations

from raysweep.loop.hang_watchdog import SILENCE_S, SILENT_ITERATIONS, HangWatchdog


def test_a_silent_trial_is_reported_once():
    watchdog = HangWatchdog(30.0)
    watchdog.started("00000", 1000.0)
    assert [watchdog.silent(now) for now in (1029.0, 1030.0, 1035.0)] == [[], [("00000", 30.0)], []]


def test_a_trial_that_starts_again_is_watched_again():
    watchdog = HangWatchdog(30.0)
    watchdog.started("00000", 0.0)
    assert watchdog.silent(30.0)
    watchdog.started("00000", 31.0)
    assert [watchdog.silent(now) for now in (60.0, 61.0)] == [[], [("00000", 30.0)]]


def test_a_report_and_a_start_are_signs_of_life():
    watchdog = HangWatchdog(30.0)
    for sign, now in ((watchdog.started, 0.0), (watchdog.reported, 29.0), (watchdog.reported, 58.0)):
        sign("00000", now)
        assert watchdog.silent(now + 29.0) == []


def test_a_trial_that_has_ended_is_not_watched():
    watchdog = HangWatchdog(30.0)
    watchdog.started("00000", 0.0)
    watchdog.started("00001", 0.0)
    watchdog.ended("00000")
    watchdog.ended("never begun")
    assert watchdog.silent(60.0) == [("00001", 60.0)]


def test_a_hung_trial_is_watched_again_after_a_further_report():
    watchdog = HangWatchdog(30.0)
    watchdog.started("00000", 0.0)
    watchdog.silent(30.0)
    watchdog.reported("00000", 31.0)
    assert watchdog.silent(61.0) == [("00000", 30.0)]


def test_without_a_limit_slow_iterations_extend_the_timeout():
    watchdog = HangWatchdog(None)
    watchdog.started("00000", 0.0)
    watchdog.reported("00000", 100.0)
    assert watchdog.silent(100.0 + SILENCE_S + 1) == []
    assert watchdog.silent(100.0 + SILENT_ITERATIONS * 100.0) == [("00000", 2000.0)]


def test_without_a_limit_the_timeout_is_at_least_as_long_as_a_storage_outage():
    watchdog = HangWatchdog(None)
    watchdog.started("00000", 0.0)
    watchdog.reported("00000", 1.0)
    assert [bool(watchdog.silent(1.0 + seconds)) for seconds in (SILENCE_S - 1, SILENCE_S)] == [False, True]
