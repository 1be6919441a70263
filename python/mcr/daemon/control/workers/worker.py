"""One worker process as control knows it: its incarnation, its state, its deaths.

Owns the records that clients see. Talks to nobody.
"""

import asyncio
from dataclasses import dataclass, field

from ....protocol.results import WorkerDeath, WorkerInfo
from .channel import WorkerChannel


@dataclass(slots=True)
class DeathRecord:
    """The last end of a worker."""

    at: float
    """Seconds since 1970."""
    cause: str
    outage_ms: int | None = None
    """Until its successor had the rules; None until then, or if it is not known."""
    missed_frames: int | None = None
    """What the kernel dropped meanwhile; None until the successor has counted."""
    kernel_dropped_frames: int = 0
    """What the kernel had dropped before it, as the worker knew."""
    is_over: bool = False
    """Whether its flows go on again."""
    was_seen: bool = True
    """Whether this process was there: of an earlier death it is not known what was missed."""

    def info(self) -> WorkerDeath:
        """As clients see it."""
        return WorkerDeath(self.at, self.cause, self.outage_ms, self.missed_frames)


@dataclass(slots=True)
class Worker:
    """One worker, through all its incarnations."""

    number: int
    pid: int | None = None
    cpu: int | None = None
    incarnation: int = 0
    started_at: float | None = None
    deaths: int = 0
    last_death: DeathRecord | None = None
    restart_in_ms: int | None = None
    link: WorkerChannel | None = None
    provided: WorkerChannel | None = None
    """The channel by which it was given rules."""
    synced: bool = False
    """Whether these are the rules of now, so that it takes part in changes."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever gives it the rules."""
    had_rules: bool = False
    """Whether it relayed by some rules already when it was brought up."""
    lacks: dict[str, str] = field(default_factory=dict)
    """Rules that it refused when it came back, and why."""
    is_silent: bool = False
    """Whether it has not said for a while that it is there."""
    kernel_dropped_frames: int = 0
    """What the kernel has dropped over all interfaces, in all incarnations."""

    @property
    def is_running(self) -> bool:
        """Whether it relays by rules, if only by those before a change, and answers."""
        return self.link is not None and self.link is self.provided and not self.link.is_over

    @property
    def state(self) -> str:
        """In a word."""
        if self.is_running:
            return "silent" if self.is_silent else "running"
        if self.pid is None:
            return "starting" if self.incarnation == 0 else "restarting"
        return "silent" if self.link is None or self.link.is_over else "starting"

    def info(self) -> WorkerInfo:
        """As clients see it."""
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
        )
