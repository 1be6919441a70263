"""Constants that the daemon and its clients share.

Owns the default path of the socket, and the version, error codes and limits of the protocol. Loads
nothing that would delay the start of a client.
"""

import enum
import os
from pathlib import Path
from typing import Literal, get_args

PROTOCOL = 1
"""The version of the control protocol; `hello` refuses any other."""

LINE_BYTES = 16 << 20
"""The longest request or answer, in bytes with its line feed."""

REPLAY_EVENTS = 1024
"""The number of past events that a subscriber can request."""

EXPLAINED_DATAGRAMS = 256
"""The most datagrams of one request to explain."""

TAPS = 4
"""The most captures and traces that a daemon runs at a time."""

EventKind = Literal["rule", "worker", "interface", "log", "alarm", "loss"]
EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)
"""The subjects of events."""

REFUSED_START = 78
"""The exit code of control (sysexits.h: EX_CONFIG) that cannot take the rules it starts with.

It is not started again: another try would meet the same rules.
"""

ROOT_SOCKET = Path("/run/mcr/mcr.sock")
"""The socket of root's daemon by default."""


class ErrorCode(enum.IntEnum):
    """The codes of JSON-RPC 2.0 (section 5.1), and behind them the daemon's own."""

    PARSE = -32700
    INVALID_REQUEST = -32600
    NO_SUCH_METHOD = -32601
    INVALID_PARAMS = -32602
    INTERNAL = -32603
    RULE_REFUSED = -32000
    PROTOCOL_MISMATCH = -32001
    REVISION_CONFLICT = -32002
    NO_SUCH_RULE = -32003
    LIMIT = -32004
    SHUTTING_DOWN = -32005
    INTERFACE = -32006
    RIGHTS = -32007
    WORKER_FAILED = -32008


SOCKET_VARIABLE = "MCR_SOCKET"
"""The environment variable that names the socket of the daemon."""


def default_socket() -> Path:
    """The socket of this user's daemon by default.

    Root's is /run/mcr/mcr.sock. That of another user is in XDG_RUNTIME_DIR, or without that in a
    directory of /tmp that only this user can enter.
    """
    uid = os.geteuid()
    if uid == 0:
        return ROOT_SOCKET
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime, "mcr", "mcr.sock") if runtime else Path(f"/tmp/mcr-{uid}", "mcr.sock")
