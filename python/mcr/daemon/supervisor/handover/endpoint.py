"""The socket at which a supervisor waits for one of another version.

Only the user that runs the daemon can connect, and the peer's credentials are checked as well.
"""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ....protocol.peercred import peer_credentials
from ..listener import bind_socket, inode_of
from ..reactor import Reactor
from .link import SupervisorLink

_BACKLOG = 4
_MODE = 0o600


def endpoint_path(path: Path) -> Path:
    """The path that belongs to a daemon's socket."""
    return path.with_name(f"{path.name}.takeover")


class TakeoverSocket:
    """A listening socket beside that of the daemon, whose lock the caller holds."""

    def __init__(
        self, path: Path, reactor: Reactor, on_connection: Callable[[SupervisorLink, int], None]
    ) -> None:
        """Listen.

        Args:
            path: the socket of the daemon.
            reactor: the event loop.
            on_connection: called with each connection of this user, and the peer's process id.

        Raises:
            OSError: the path is too long, or its directory cannot be written.
        """
        self._path, self._reactor = endpoint_path(path), reactor
        self._on_connection = on_connection
        with suppress(FileNotFoundError):
            self._path.unlink()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            bind_socket(self._socket, self._path, _MODE)
            self._inode = inode_of(self._path)
            self._socket.listen(_BACKLOG)
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise
        reactor.watch(self._socket, self._accept)

    def close(self) -> None:
        """Stop listening, and remove the socket unless another supervisor has replaced it."""
        self._reactor.forget(self._socket)
        with suppress(OSError):
            if inode_of(self._path) == self._inode:
                self._path.unlink()
        self._socket.close()

    def _accept(self) -> None:
        try:
            accepted, _ = self._socket.accept()
        except OSError:
            return
        peer = peer_credentials(accepted)
        if peer.uid != os.geteuid():
            accepted.close()
            return
        self._on_connection(SupervisorLink(accepted), peer.pid)
