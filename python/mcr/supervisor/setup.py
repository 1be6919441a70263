"""What `mcr serve` was asked for, as one value. Knows nothing of how it is done."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..accounts import Account

Ingress = Literal["packet", "udp"]


@dataclass(frozen=True, slots=True)
class Setup:
    """The choices of a daemon; they stay for its whole life."""

    socket: Path
    """Absolute."""
    ingress: Ingress
    workers: int
    buffer_bytes: int
    """Receive buffers of each worker."""
    cpus: tuple[int, ...] = ()
    """The CPU of each worker; empty leaves the choice to the kernel."""
    account: Account | None = None
    """Whom the children become; None: they stay the user that started the daemon."""
    group: int | None = None
    """The group of the socket; None for the group that the supervisor runs with."""
    config: Path | None = None
    state: Path | None = None
    hosts: Literal["first", "all"] = "first"
    log_level: str = "info"
    """One of `daemon.LEVELS`."""
    verify_checksums: bool = True
