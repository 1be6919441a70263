"""The socket of a daemon: connecting to it, and whom to trust at its other end.

Knows nothing of what is said.
"""

import os
import socket
from pathlib import Path

from ..errors import RightsError
from ..protocol.constants import ROOT_SOCKET, default_socket
from ..protocol.peercred import peer_credentials

_ROOT = 0


def connected_socket(path: Path) -> socket.socket:
    """Return a connected socket that does not block.

    Raises:
        OSError: there is no connection; connecting to a Unix socket never takes long.
        RightsError: at a default path listens somebody who should not.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.connect(os.fspath(path))
        _check_peer(made, path)
    except BaseException:
        made.close()
        raise
    return made


def _check_peer(connected: socket.socket, path: Path) -> None:
    """At a path that nobody chose, nobody else may pretend to be the daemon."""
    trusted = trusted_users(path)
    if trusted is None:
        return
    uid = peer_credentials(connected).uid
    if uid not in trusted:
        raise RightsError(
            f"the process that listens at {path} belongs to the user {uid}, and only root"
            f"{'' if trusted == {_ROOT} else ' and this user'} may: nothing was sent to it"
        )


def trusted_users(path: Path) -> set[int] | None:
    """Return who may listen at this path; None where that is the business of who named it."""
    if path == ROOT_SOCKET:
        return {_ROOT}
    return {_ROOT, os.geteuid()} if path == default_socket() else None
