"""The settings of the daemon, as `mcr serve` accepts them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from ..choices import Egress, Hosts, Ingress, LogFormat, Offload
from .account import Account


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """The settings of a daemon, fixed for its whole life."""

    socket: Path
    """The absolute path of the Unix socket."""
    ingress: Ingress
    workers: int
    buffer_bytes: int
    """The receive buffers of each worker, in bytes."""
    cpus: tuple[int, ...] = ()
    """The CPU of each worker; empty leaves the choice to the kernel."""
    account: Account | None = None
    """The account of the children; None keeps the user that started the daemon."""
    group: int | None = None
    """The group id of the socket; None for the group that the supervisor runs with."""
    observers: int | None = None
    """The group id of those who may only observe; None opens no socket for them."""
    observers_socket: Path | None = None
    """The absolute path of their socket."""
    config: Path | None = None
    state: Path | None = None
    egress: Egress = "auto"
    offload: Offload = "off"
    hosts: Hosts = "first"
    log_level: str = "info"
    """The levels, as `mcr.protocol.log_spec` has them."""
    log_format: LogFormat = "auto"
    log_stats: bool = False
    """Whether the log gets the traffic of each second."""
    verify_checksums: bool = True
    """Whether datagrams with a wrong UDP checksum are dropped."""
    flows: bool = False
    """Whether workers count the flows of each rule."""
    latency: bool = False
    """Whether workers measure the latency of each rule."""
    expect: str | None = None
    """What rules expect that say nothing, as text."""
    include: tuple[str, ...] = ()
    """The patterns of the files that the configuration includes, as `mcr.config.include` has."""
    keep_going: bool = False
    """Whether a configuration that is refused at the start leaves the kept rules in force."""
    takeover: bool = False
    """Whether to replace the daemon that serves the socket."""
    command: tuple[str, ...] = ()
    """The command that started the daemon."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options that differ from their defaults, as the table `daemon` of a configuration."""

    def to_text(self) -> str:
        """Serialize the settings into one command-line argument."""
        return json.dumps(asdict(self), default=str)  # str() for the paths

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Parse the output of `to_text`."""
        values: dict[str, Any] = json.loads(text)
        for name in ("socket", "observers_socket", "config", "state"):
            values[name] = None if values[name] is None else Path(values[name])
        account = values.pop("account")
        for name in ("cpus", "include", "command"):
            values[name] = tuple(values[name])
        return cls(
            **values,
            account=None if account is None else Account(**account),
        )
