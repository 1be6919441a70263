"""Watchdogs: detect a child that sends no heartbeat while the supervisor is awake.

Pure: times come in as numbers.
"""

WORKER_SILENCE_S = 3.0
"""A worker sends two heartbeats a second while its engine turns."""
CONTROL_SILENCE_S = 5.0
"""Control sends heartbeats from its event loop, which a long answer may block for a moment."""
START_S = 30.0
"""The time limit for the first heartbeat: a busy machine loads libraries slowly."""
DISCONNECT_S = 1.0
"""The time limit for a process that has closed a channel; one that exits does so at once."""
LONGEST_TICK_S = 0.5
"""The most that one iteration of the main loop counts; it takes at most a quarter of a second."""


class AwakeClock:
    """The seconds during which the supervisor was awake.

    The system's clock advances while the supervisor is stopped or gets no CPU time. Heartbeats from
    that time wait unread, and a child that was stopped too has sent none. Neither may count against
    the child, so each iteration counts its duration up to the longest that is plausible.
    """

    def __init__(self, now_s: float) -> None:
        """Start at 0 awake seconds.

        Args:
            now_s: the time of a monotonic clock, in seconds.
        """
        self._last_tick_s = now_s
        self.awake_s = 0.0

    def tick(self, now_s: float) -> float:
        """Begin an iteration; return the awake seconds so far."""
        self.awake_s += min(max(now_s - self._last_tick_s, 0.0), LONGEST_TICK_S)
        self._last_tick_s = now_s
        return self.awake_s


class Watchdog:
    """The watchdog of one process; all times are awake seconds."""

    def __init__(self, silence_s: float, started_s: float) -> None:
        """Begin with the time limit for a start.

        Args:
            silence_s: the longest time between heartbeats after the first one.
            started_s: when the process was started.
        """
        self._silence_s = silence_s
        self._limit_s = START_S
        self._last_heartbeat_s = started_s
        self._disconnected_s: float | None = None

    def record_heartbeat(self, awake_s: float) -> None:
        """Record a heartbeat."""
        self._last_heartbeat_s = awake_s
        self._limit_s = self._silence_s

    def record_disconnect(self, awake_s: float) -> None:
        """Record that the process has closed a channel that it needs."""
        if self._disconnected_s is None:
            self._disconnected_s = awake_s

    def fault(self, awake_s: float) -> str | None:
        """The reason to kill the process; None while it is healthy."""
        if self._disconnected_s is not None and awake_s - self._disconnected_s >= DISCONNECT_S:
            return "closed its channel to the supervisor"
        if awake_s - self._last_heartbeat_s < self._limit_s:
            return None
        return f"did not answer for {self._limit_s:g} s"
