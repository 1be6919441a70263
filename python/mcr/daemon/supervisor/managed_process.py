"""A managed process: control or a worker, across its incarnations.

Owns the state that outlives a single process: the number of deaths and the time of the next start.
`ProcessManager` starts the processes.
"""

import socket
import time
from dataclasses import dataclass

from .backoff import Backoff
from .child import Child
from .child_channel import ChildChannel
from .watchdog import CONTROL_SILENCE_S, WORKER_SILENCE_S, Watchdog


@dataclass(frozen=True, slots=True)
class ProcessDeath:
    """The end of one incarnation."""

    pid: int
    """0 if the process could not be started."""
    cause: str
    at_s: float
    """Seconds since 1970."""
    monotonic_s: float
    """The same moment by CLOCK_MONOTONIC, which all processes of a host share."""


class ManagedProcess:
    """Control or one worker."""

    def __init__(self, name: str, silence_s: float) -> None:
        """Begin without a process, to be started at once.

        Args:
            name: used in log lines, such as "worker 0".
            silence_s: the longest time between two heartbeats, in awake seconds.
        """
        self.name = name
        self.silence_s = silence_s
        self.child: Child | None = None
        """The running process; None between two incarnations."""
        self.channel: ChildChannel | None = None
        self.watchdog: Watchdog | None = None
        self.heartbeats = 0
        """The heartbeats of all incarnations."""
        self.incarnation = 0
        self.started_at_s = 0.0
        """The start of the current incarnation, in seconds since 1970."""
        self.deaths = 0
        self.last_death: ProcessDeath | None = None
        self.restart_at_s: float | None = 0.0
        """The monotonic time of the next start, in seconds; None while a process runs."""
        self._backoff = Backoff()

    def record_start(self, child: Child, channel: ChildChannel, awake_s: float) -> None:
        """Take ownership of a process that was just started."""
        self.child = child
        self.channel = channel
        self.started_at_s = time.time()
        self.watchdog = Watchdog(self.silence_s, awake_s)
        self.restart_at_s = None

    def record_heartbeat(self, awake_s: float) -> None:
        """Record a heartbeat of the current incarnation."""
        if self.watchdog is not None:
            self.watchdog.record_heartbeat(awake_s)
            self.heartbeats += 1

    def record_exit(self, death: ProcessDeath, now_s: float) -> None:
        """Record that the process has ended or could not start; schedule the next start."""
        self.child = None
        self.watchdog = None
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self.deaths += 1
        self.last_death = death
        self.restart_at_s = now_s + self._backoff.died(now_s)

    def restart_in_ms(self, now_s: float) -> int:
        """The time until the next start, in ms; 0 while a process runs."""
        return 0 if self.restart_at_s is None else max(round(1e3 * (self.restart_at_s - now_s)), 0)

    def kill_if_silent(self, awake_s: float) -> None:
        """Kill a process that hangs."""
        if self.child is None or self.watchdog is None:
            return
        fault = self.watchdog.fault(awake_s)
        if fault is not None:
            self.child.kill(fault)


class ManagedControl(ManagedProcess):
    """The control process."""

    def __init__(self) -> None:
        """Begin without a process."""
        super().__init__("control", CONTROL_SILENCE_S)


class ManagedWorker(ManagedProcess):
    """A worker; all its incarnations use the same page of counters."""

    def __init__(self, number: int, cpu: int | None, page: int) -> None:
        """Begin without a process.

        Args:
            number: the worker's number, from 0.
            cpu: the CPU of its engine; None leaves the choice to the kernel.
            page: the descriptor of the page of counters.
        """
        super().__init__(f"worker {number}", WORKER_SILENCE_S)
        self.number = number
        self.cpu = cpu
        self.page = page
        self.broker: socket.socket | None = None
        """The supervisor's end of the socket to the broker."""
