"""Restart delays: exponential backoff for a process that keeps dying.

Pure: the current time comes in as a number, and a delay goes out.
"""

FIRST_DELAY_S = 0.25
"""The delay after the second death in a row; the first death has no delay."""
LONGEST_DELAY_S = 16.0
"""The limit of doubling: once the cause is gone, the process is back within this time."""
QUIET_S = 60.0
"""A process that ran this long before it died is restarted without a delay."""


class Backoff:
    """The restart delays of one process."""

    def __init__(self) -> None:
        """Start as if the process had never died."""
        self._delay_s = 0.0
        self._restarted_at_s: float | None = None

    def died(self, now_s: float) -> float:
        """Record a death; return the delay in seconds before the restart.

        The first delay is 0. From the second death within a minute it is 0.25, doubling to 16. The
        minute begins at the restart, so that the delay itself does not count as running.

        Args:
            now_s: the time of a monotonic clock, in seconds.
        """
        restarted_at_s = self._restarted_at_s
        if restarted_at_s is None or now_s - restarted_at_s >= QUIET_S:
            self._delay_s = 0.0
        elif self._delay_s == 0.0:
            self._delay_s = FIRST_DELAY_S
        else:
            self._delay_s = min(2 * self._delay_s, LONGEST_DELAY_S)
        self._restarted_at_s = now_s + self._delay_s
        return self._delay_s
