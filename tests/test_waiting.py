"""Waiting and limits of tests: what comes is returned, what does not come fails with its reason."""

import time

import pytest

from tests.waiting import until, within


def test_what_comes_is_returned():
    answers = [None, "", "it"]
    assert until(lambda: answers.pop(0)) == "it"


@pytest.mark.parametrize("what", ["a trial that runs", lambda: "a trial that runs"])
def test_what_does_not_come_fails_with_its_reason(what):
    with pytest.raises(AssertionError, match="a trial that runs"):
        until(lambda: False, what, seconds=0.1)


def test_a_limit_fails_a_block_that_waits_longer():
    with pytest.raises(AssertionError, match=r"took .* s of at most -100"), within(-100):
        time.sleep(0.01)
    with within(100):
        pass
