"""Access to the daemon, decided by the peer credentials of a connection."""

import socket
import struct
from typing import NamedTuple

from ....protocol.peercred import peer_credentials

_SO_PEERGROUPS = 59  # <asm-generic/socket.h>, Linux 4.13
_GROUPS_BYTES = 1024  # what getsockopt reads for Python: 256 groups


class Peer(NamedTuple):
    """The credentials of the process that connected."""

    pid: int
    uid: int
    gids: frozenset[int]


class AccessPolicy(NamedTuple):
    """Permits root, the user who started the daemon, and members of the socket's group."""

    starter_uid: int
    socket_gid: int

    def allows(self, peer: Peer) -> bool:
        """Whether a peer may use the daemon."""
        return peer.uid in {0, self.starter_uid} or self.socket_gid in peer.gids


def peer_of(connection: socket.socket) -> Peer:
    """The peer of a Unix socket (unix(7): SO_PEERCRED, SO_PEERGROUPS).

    Of a process in more than 256 groups only the primary group counts.
    """
    pid, uid, gid = peer_credentials(connection)
    try:
        groups = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:
        groups = b""
    others = struct.unpack(f"{len(groups) // 4}I", groups)
    return Peer(pid, uid, frozenset((gid, *others)))
