"""The arguments with which the supervisor starts control.

Owns the one argument of the command line.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Descriptor = Annotated[int, Field(ge=3)]


class Arguments(BaseModel):
    """One JSON object."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    supervisor: int
    """Its process id."""
    supervisor_channel: Descriptor
    listener: Descriptor
    """The Unix socket for clients, which listens."""
    numbers: Descriptor
    """Memory for the number of the last event, which outlives this process."""
    socket: str
    """Where that is, to be removed if the supervisor is gone."""
    uid: int | None
    """Whom to become; null stays."""
    gid: int | None
    starter_uid: int
    """Who started the daemon, and may use it."""
    socket_gid: int
    """Whose members may use it too."""
    state: str | None = None
    """Where the supervisor keeps the rules, to be named in messages; null where in memory only."""
    workers: Annotated[int, Field(ge=1, le=256)]
    ingress: Literal["packet", "udp"]
    hosts: Literal["first", "all"] = "first"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
