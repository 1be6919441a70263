"""One worker process as control knows it: its incarnation, state and deaths.

Owns the records that clients see. Does no input or output.
"""

import asyncio
from dataclasses import dataclass, field

from ....protocol.results import WorkerDeath, WorkerInfo
from .channel import WorkerChannel


@dataclass(slots=True)
class DeathRecord:
    """The last death of a worker."""

    at: float
    """Seconds since 1970."""
    monotonic_s: float
    """The same moment by CLOCK_MONOTONIC, from which the outage is measured."""
    cause: str
    outage_ms: int | None = None
    """The time until the successor had the rules; None until then, or if it is unknown."""
    missed_frames: int | None = None
    """What the kernel dropped during the outage; None until the successor's first reading."""
    kernel_dropped_frames: int = 0
    """What the kernel had dropped before the death, by the last reading."""
    is_recovered: bool = False
    """Whether the successor relays."""
    was_observed: bool = True
    """Whether this control process was running then; otherwise the outage cannot be measured."""

    def info(self) -> WorkerDeath:
        """The record in the protocol's form."""
        return WorkerDeath(self.at, self.cause, self.outage_ms, self.missed_frames)


@dataclass(slots=True)
class Worker:
    """One worker, across its incarnations."""

    number: int
    pid: int | None = None
    cpu: int | None = None
    engine: str | None = None
    """How it receives and sends, as it says itself: `io_uring` or `poll`."""
    incarnation: int = 0
    started_at: float | None = None
    deaths: int = 0
    last_death: DeathRecord | None = None
    restart_in_ms: int | None = None
    channel: WorkerChannel | None = None
    rules_channel: WorkerChannel | None = None
    """The channel through which a worker last received the rules."""
    is_current: bool = False
    """Whether it has the current rules, and so takes part in changes."""
    rules_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while it is given the rules."""
    had_rules: bool = False
    """Whether it was relaying before it was given the rules."""
    refused_rules: dict[str, str] = field(default_factory=dict)
    """The ids of rules that it refused after a restart, each with the reason."""
    is_silent: bool = False
    """Whether its page of counters has shown no sign of life for a while."""
    kernel_dropped_frames: int = 0
    """What the kernel has dropped on all interfaces, over all incarnations."""

    @property
    def is_running(self) -> bool:
        """Whether it is connected and relays, by the current or the previous rules."""
        channel = self.channel
        return channel is not None and channel is self.rules_channel and not channel.is_closed

    @property
    def state(self) -> str:
        """One of `running`, `silent`, `starting` and `restarting`."""
        if self.is_running:
            return "silent" if self.is_silent else "running"
        if self.pid is None:
            return "starting" if self.incarnation == 0 else "restarting"
        return "silent" if self.channel is None or self.channel.is_closed else "starting"

    def info(self) -> WorkerInfo:
        """The worker in the protocol's form."""
        return WorkerInfo(
            number=self.number,
            pid=self.pid,
            state=self.state,
            cpu=self.cpu,
            incarnation=self.incarnation,
            started_at=self.started_at,
            deaths=self.deaths,
            last_death=self.last_death.info() if self.last_death else None,
            restart_in_ms=self.restart_in_ms,
            engine=self.engine,
        )
