"""What tests of the session and of the process around it share."""

import contextlib
import threading

import pytest

import raysweep


@pytest.fixture
def stubborn():
    """A function that swallows each end, and reports again; it lets go when the test is over."""
    let_go, threads = threading.Event(), []

    def train(config):
        threads.append(threading.current_thread())
        while not let_go.is_set():
            with contextlib.suppress(BaseException):
                raysweep.report({"loss": 1.0})

    yield train
    let_go.set()
    for thread in threads:
        thread.join(10)
