"""The notifications to the service manager: readiness, the end, and its watchdog (sd_notify(3))."""

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
"""The environment variables of the service manager, which are for the supervisor alone."""
_PINGS = 4  # in the time that the service manager waits for one


class ServiceManager:
    """The service manager that has started the daemon, if there is one."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Read the requests of the service manager.

        Args:
            environment: has NOTIFY_SOCKET, the path of the manager's socket (a leading @ means an
                abstract one); and WATCHDOG_USEC, the longest time between two pings in
                microseconds, which counts if WATCHDOG_PID is this process.
        """
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = address.replace("@", "\0", 1) if address.startswith("@") else address
        period_us = environment.get("WATCHDOG_USEC", "")
        is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._ping_s: float | None = None
        if is_ours and period_us.isascii() and period_us.isdigit():
            self._ping_s = int(period_us) / 1e6 / _PINGS
        self._next_ping_s = 0.0
        self._beats: Sequence[int] = ()

    @property
    def has_watchdog(self) -> bool:
        """Whether the manager restarts a daemon that does not ping."""
        return self._ping_s is not None

    def notify(self, text: str) -> None:
        """Send the daemon's state, such as READY=1 or STOPPING=1; never block."""
        if not self._address.startswith(("/", "\0")):
            return
        # If this fails, the service manager's own timeout applies.
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notifier,
        ):
            notifier.sendto(text.encode(), self._address)

    def ping(self, beats: Sequence[int], now_s: float) -> bool:
        """Reset the manager's watchdog if that is due and every worker has sent a heartbeat since.

        Args:
            beats: the heartbeats of each worker so far, over all of its incarnations.
            now_s: the time of a monotonic clock, in seconds.

        Returns:
            Whether the watchdog was reset.
        """
        if self._ping_s is None or now_s < self._next_ping_s:
            return False
        if self._beats and any(new == old for new, old in zip(beats, self._beats, strict=True)):
            return False
        self._next_ping_s = now_s + self._ping_s
        self._beats = tuple(beats)
        self.notify("WATCHDOG=1")
        return True
