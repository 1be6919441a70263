"""The arguments of control: one JSON object, the only argument of its command line."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from ...choices import Hosts, Ingress, LogFormat, Offload
from ...relay.settings import why_uncounted
from ...rules.expectation import Expectation

Descriptor = Annotated[int, Field(ge=3)]


class ObserverArguments(BaseModel):
    """The socket for clients that may only observe."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    listener: Descriptor
    socket: str
    """Its path."""
    gid: int
    """The group whose members may use it."""


class ControlArguments(BaseModel):
    """The arguments that the supervisor passes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    supervisor: int
    """The process id of the supervisor."""
    supervisor_channel: Descriptor
    listener: Descriptor
    """The listening Unix socket for clients."""
    numbers: Descriptor
    """Memory for the number of the last event of each kind, which outlives this process."""
    pages: list[Descriptor]
    """The workers' pages of counters in the order of their numbers, open for reading only."""
    socket: str
    """The path of the listener."""
    observers: ObserverArguments | None = None
    uid: int | None
    """The user to switch to; null keeps the current one."""
    gid: int | None
    starter_uid: int
    """The user that started the daemon, and may use it."""
    socket_gid: int
    """The group whose members may use the daemon too."""
    state: str | None = None
    """The path of the state file, for messages; null if rules are kept in memory only."""
    config: str | None = None
    """The path of the configuration file, for messages; null without one."""
    keep_going: bool = False
    """Whether a configuration that is refused at the start leaves the kept rules in force."""
    options: dict[str, Any] = {}
    """The options that differ from their defaults, as the table `daemon` of a configuration."""
    workers: Annotated[int, Field(ge=1, le=256)]
    ingress: Ingress
    hosts: Hosts = "first"
    log_level: str = "info"
    """The levels, as `mcr.protocol.log_spec` has them."""
    log_format: LogFormat = "auto"
    log_stats: bool = False
    """Whether the log gets the traffic of each second."""
    flows: bool = False
    offload: Offload = "off"
    expect: str | None = None
    """What rules expect that say nothing, as text."""

    @property
    def expectation(self) -> Expectation | None:
        """What rules expect that say nothing."""
        return None if self.expect is None else Expectation.parse(self.expect)

    @property
    def uncounted(self) -> str | None:
        """Why no senders are counted."""
        return why_uncounted(flows=self.flows, offload=self.offload)

    @property
    def paths(self) -> list[str]:
        """The paths of its sockets, which control removes if the supervisor dies."""
        return [self.socket, *([self.observers.socket] if self.observers else [])]
