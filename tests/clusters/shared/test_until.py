"""Waiting for something on this machine."""

import time

import pytest

from raysweep.clusters.shared.until import until


def test_it_is_checked_until_it_is_true():
    answers = [False, False, True]
    assert until(lambda: answers.pop(0), 5, pause=0.0)
    assert answers == []


def test_it_gives_up_after_the_time():
    began = time.monotonic()
    assert not until(lambda: False, 0.1, pause=0.01)
    assert time.monotonic() - began > 0.05


def test_it_is_checked_once_even_without_any_time():
    assert until(lambda: True, 0)


def test_an_error_is_not_waited_out():
    def broken() -> bool:
        raise OSError("no such thing")

    with pytest.raises(OSError, match="no such thing"):
        until(broken, 5)
