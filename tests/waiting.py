"""Waiting for a condition, instead of sleeping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], *, seconds: float = 20, what: str = "") -> T:
    """The condition's first true answer. Fails after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"still not after {seconds} s: {what or condition}")
        time.sleep(0.01)
