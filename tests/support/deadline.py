"""Conditions that must hold before a deadline."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 10.0
_POLL_S = 0.005
Found = TypeVar("Found")


def wait_until(
    look: Callable[[], Found], within_s: float = PATIENCE_S, what: object = "the condition"
) -> Found:
    """Call `look` until it returns something true; return that.

    Raises:
        AssertionError: nothing true within `within_s` seconds; says `what` was waited for.
    """
    ends_s = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < ends_s, f"not within {within_s} s: {what}"
        time.sleep(_POLL_S)
    return found


async def until(
    look: Callable[[], Found], within_s: float = PATIENCE_S, what: object = "the condition"
) -> Found:
    """The same in an event loop, whose other tasks run meanwhile."""
    ends_s = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < ends_s, f"not within {within_s} s: {what}"
        await asyncio.sleep(_POLL_S)
    return found
