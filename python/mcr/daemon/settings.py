"""The settings of the daemon, as `mcr serve` takes them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from ..protocol.constants import Level
from .account import Account

Ingress = Literal["packet", "udp"]


@dataclass(frozen=True, slots=True)
class DaemonSettings:
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
    log_level: Level = "info"
    verify_checksums: bool = True
    """Whether datagrams with a wrong UDP checksum are dropped."""

    def to_text(self) -> str:
        """Write it as one argument of a command line."""
        return json.dumps(asdict(self), default=str)  # str() for the paths

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `to_text` has written, and nothing else."""
        told: dict[str, Any] = json.loads(text)
        for name in ("socket", "config", "state"):
            told[name] = None if told[name] is None else Path(told[name])
        account = told.pop("account")
        return cls(
            **{**told, "cpus": tuple(told["cpus"])},
            account=None if account is None else Account(**account),
        )
