"""Conditions that must hold before a deadline."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

PATIENCE_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.04
Found = TypeVar("Found")


def pauses() -> Iterator[float]:
    """Seconds between looks: short at first, then longer, as a look may ask a daemon for much."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def wait_until(
    look: Callable[[], Found], within_s: float = PATIENCE_S, what: object = "the condition"
) -> Found:
    """Call `look` until it returns something true; return that.

    Raises:
        AssertionError: nothing true within `within_s` seconds; says `what` was waited for.
    """
    ends_s, pauses_s = time.monotonic() + within_s, pauses()
    while not (found := look()):
        assert time.monotonic() < ends_s, f"not within {within_s} s: {what}"
        time.sleep(next(pauses_s))
    return found


async def until(
    look: Callable[[], Found], within_s: float = PATIENCE_S, what: object = "the condition"
) -> Found:
    """The same in an event loop, whose other tasks run meanwhile."""
    ends_s, pauses_s = time.monotonic() + within_s, pauses()
    while not (found := look()):
        assert time.monotonic() < ends_s, f"not within {within_s} s: {what}"
        await asyncio.sleep(next(pauses_s))
    return found
