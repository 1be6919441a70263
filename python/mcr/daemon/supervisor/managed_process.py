"""A post: the place of one process that there shall always be, whoever has it at the moment.

Owns what outlives its holder: how often one died, when the next begins. Starts nothing itself.
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
    """How a holder ended."""

    pid: int
    """0 for one that could not even be started."""
    cause: str
    at_s: float
    """Seconds since 1970."""


class ManagedProcess:
    """The place of control, or of one worker."""

    def __init__(self, name: str, silence_s: float) -> None:
        """Be vacant, to be filled at once."""
        self.name = name
        self.silence_s = silence_s
        self.child: Child | None = None
        self.channel: ChildChannel | None = None
        self.watchdog: Watchdog | None = None
        self.incarnation = 0
        self.started_at_s = 0.0
        """When the holder began, in seconds since 1970."""
        self.deaths = 0
        self.last_death: ProcessDeath | None = None
        self.restart_at_s: float | None = 0.0
        self._backoff = Backoff()

    def started(self, child: Child, channel: ChildChannel, awake_s: float) -> None:
        """Give the post to a process that was just started."""
        self.child = child
        self.channel = channel
        self.started_at_s = time.time()
        self.watchdog = Watchdog(self.silence_s, awake_s)
        self.restart_at_s = None

    def exited(self, death: ProcessDeath, now_s: float) -> None:
        """The holder has ended, or could not begin: decide when the next one does."""
        self.child = None
        self.watchdog = None
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self.deaths += 1
        self.last_death = death
        self.restart_at_s = now_s + self._backoff.died(now_s)

    def restart_in_ms(self, now_s: float) -> int:
        """How long the post stays vacant yet."""
        return 0 if self.restart_at_s is None else max(round(1e3 * (self.restart_at_s - now_s)), 0)

    def kill_if_silent(self, awake_s: float) -> None:
        """End a holder that hangs."""
        if self.child is None or self.watchdog is None:
            return
        complaint = self.watchdog.complaint(awake_s)
        if complaint is not None:
            self.child.kill(complaint)


class ManagedControl(ManagedProcess):
    """Control's place."""

    def __init__(self) -> None:
        """Be vacant."""
        super().__init__("control", CONTROL_SILENCE_S)


class ManagedWorker(ManagedProcess):
    """A worker's place; its page of counters goes from one holder to the next."""

    def __init__(self, number: int, cpu: int | None, page: int) -> None:
        """Be vacant.

        Args:
            number: counted from 0.
            cpu: where its engine runs; None leaves that to the kernel.
            page: the descriptor of its counters.
        """
        super().__init__(f"worker {number}", WORKER_SILENCE_S)
        self.number = number
        self.cpu = cpu
        self.page = page
        self.broker: socket.socket | None = None
