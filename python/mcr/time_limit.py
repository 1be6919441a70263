"""Time limits of calls that wait."""

import threading

from .errors import ArgumentError


def time_limit(timeout_s: object) -> float | None:
    """Return a time limit in seconds that every way to wait accepts; None for no limit.

    Raises:
        ArgumentError: it is negative or not a number.
    """
    if timeout_s is None:
        return None
    if not isinstance(timeout_s, int | float) or not timeout_s >= 0:  # NaN is not either
        raise ArgumentError(f"timeout_s: must be at least 0, not {timeout_s!r}")
    return float(min(timeout_s, threading.TIMEOUT_MAX))
