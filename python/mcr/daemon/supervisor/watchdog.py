"""Watchdogs: which child has been silent too long while the supervisor was awake.

Pure: times come in as numbers. Knows no process and no socket.
"""

WORKER_SILENCE_S = 3.0
"""A worker pulses twice a second, from a thread that does nothing else."""
CONTROL_SILENCE_S = 5.0
"""Control pulses from the loop that serves clients, which a long answer may hold for a moment."""
START_S = 30.0
"""How long the first pulse may take: a busy machine loads libraries slowly."""
HUNG_UP_S = 1.0
"""How long a process may live on that has closed its channel; one that ends does so at once."""
LONGEST_TURN_S = 0.5
"""What one turn of the supervisor counts at most; it turns at least every quarter of a second."""


class AwakeClock:
    """Seconds during which the supervisor was awake.

    A clock of the machine runs on while the supervisor is stopped or gets no processor. Pulses
    that came meanwhile wait unread, and a child that was stopped with it has sent none: neither may
    count against the child. So a turn counts what it took, but no more than a turn can take.
    """

    def __init__(self, now_s: float) -> None:
        """Start at 0 awake seconds.

        Args:
            now_s: a clock that never goes back, in seconds.
        """
        self._before_s = now_s
        self.awake_s = 0.0

    def turn(self, now_s: float) -> float:
        """Begin a turn; return the awake seconds so far."""
        self.awake_s += min(max(now_s - self._before_s, 0.0), LONGEST_TURN_S)
        self._before_s = now_s
        return self.awake_s


class Watchdog:
    """The patience with one process; all times are awake seconds."""

    def __init__(self, silence_s: float, started_s: float) -> None:
        """Begin with the patience for a start.

        Args:
            silence_s: how long there may be no pulse after the first one.
            started_s: when the process was started.
        """
        self._silence_s = silence_s
        self._patience_s = START_S
        self._heard_s = started_s
        self._hung_up_s: float | None = None

    def pulse(self, awake_s: float) -> None:
        """Take note of a pulse."""
        self._heard_s = awake_s
        self._patience_s = self._silence_s

    def hung_up(self, awake_s: float) -> None:
        """Take note that the process has closed a channel that it needs."""
        if self._hung_up_s is None:
            self._hung_up_s = awake_s

    def complaint(self, awake_s: float) -> str | None:
        """What to say of a process that has to go; None for one that is well."""
        if self._hung_up_s is not None and awake_s - self._hung_up_s >= HUNG_UP_S:
            return "closed its channel to the supervisor"
        if awake_s - self._heard_s < self._patience_s:
            return None
        return f"did not answer for {self._patience_s:g} s"
