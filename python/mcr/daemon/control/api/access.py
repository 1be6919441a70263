"""Access to the daemon, decided by the credentials of the peer's socket.

Owns the policy. Knows no request.
"""

import socket
import struct
from typing import NamedTuple

from ....protocol.peercred import peer_credentials

_SO_PEERGROUPS = 59  # <asm-generic/socket.h>, Linux 4.13
_GROUPS_BYTES = 1024  # what getsockopt reads for Python: 256 groups


class Peer(NamedTuple):
    """The process at the other end when it connected."""

    pid: int
    uid: int
    gids: frozenset[int]


class AccessPolicy(NamedTuple):
    """Who is let in: root, whoever started the daemon, and the socket's group."""

    starter_uid: int
    socket_gid: int

    def allows(self, peer: Peer) -> bool:
        """Whether this one may use the daemon."""
        return peer.uid in {0, self.starter_uid} or self.socket_gid in peer.gids


def peer_of(connection: socket.socket) -> Peer:
    """The other end of a Unix socket (unix(7): SO_PEERCRED, SO_PEERGROUPS).

    Of somebody with more than 256 groups only the first counts.
    """
    pid, uid, gid = peer_credentials(connection)
    try:
        groups = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:
        groups = b""
    others = struct.unpack(f"{len(groups) // 4}I", groups)
    return Peer(pid, uid, frozenset((gid, *others)))
