"""The process at the other end of a Unix socket, by SO_PEERCRED (unix(7)).

Owns the layout of `struct ucred`. Decides nothing: whom to trust is up to the caller.
"""

import socket
import struct
from typing import NamedTuple

_UCRED = struct.Struct("iII")  # <bits/socket.h>: uid_t and gid_t are unsigned


class PeerCredentials(NamedTuple):
    """Of the process that connected or listens, when it did so."""

    pid: int
    uid: int
    gid: int


def peer_credentials(connection: socket.socket) -> PeerCredentials:
    """Ask the kernel for the peer of a connected Unix socket.

    Raises:
        OSError: the socket is not connected.
    """
    ucred = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return PeerCredentials(*_UCRED.unpack(ucred))
