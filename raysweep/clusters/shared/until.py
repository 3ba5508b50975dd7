"""Waits for something on this machine."""

from __future__ import annotations

from collections.abc import Callable

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed


def until(true: Callable[[], bool], seconds: float, pause: float = 0.1) -> bool:
    """Whether something becomes true within this time; it is checked at least once, and again after each pause."""
    retry = Retrying(
        retry=retry_if_result(lambda now: not now),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(pause),
        retry_error_callback=lambda _: False,
    )
    return bool(retry(true))
