"""Restart delays: a process that keeps dying is restarted ever more slowly.

Pure: times come in as numbers, a delay comes out. Knows no process.
"""

FIRST_DELAY_S = 0.25
"""The delay after the second death in a row; a first one has none."""
LONGEST_DELAY_S = 16.0
"""Doubling ends here: a cause that passes by itself is met within this time."""
QUIET_S = 60.0
"""Whoever ran this long before it died begins anew, with no delay."""


class Backoff:
    """The delays of one process that is started again and again."""

    def __init__(self) -> None:
        """Start as if the process had never died."""
        self._delay_s = 0.0
        self._restarted_at_s: float | None = None

    def died(self, now_s: float) -> float:
        """Take note of a death; return after how many seconds to start again.

        The first is 0, from the second within a minute 0.25, doubling to 16. A minute counts from
        the restart, so that waiting is not taken for running.

        Args:
            now_s: a clock that never goes back, in seconds.
        """
        before_s = self._restarted_at_s
        if before_s is None or now_s - before_s >= QUIET_S:
            self._delay_s = 0.0
        elif self._delay_s == 0.0:
            self._delay_s = FIRST_DELAY_S
        else:
            self._delay_s = min(2 * self._delay_s, LONGEST_DELAY_S)
        self._restarted_at_s = now_s + self._delay_s
        return self._delay_s
