"""Connections to a daemon's socket, and the check of the process that listens there."""

import os
import socket
from pathlib import Path

from ..errors import RightsError
from ..protocol.constants import ROOT_SOCKET, default_socket
from ..protocol.peercred import peer_credentials

_ROOT = 0


def open_connection(path: Path) -> socket.socket:
    """Return a connected, non-blocking socket; connecting to a Unix socket never blocks long.

    Raises:
        OSError: the connection failed.
        RightsError: the path is a default one, and another user's process listens there.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.connect(os.fspath(path))
        _check_peer(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_peer(connected: socket.socket, path: Path) -> None:
    """At a default path, refuse a process of a user who cannot be trusted."""
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
    """The ids of the users who may listen at a default path; None for a path that a user chose."""
    if path == ROOT_SOCKET:
        return {_ROOT}
    return {_ROOT, os.geteuid()} if path == default_socket() else None
