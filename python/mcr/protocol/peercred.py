"""The credentials of the peer of a Unix socket: SO_PEERCRED (unix(7)), `struct ucred`."""

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
