"""The connection of a client that blocks: executes the steps of a session on a socket."""

import errno
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ..errors import McrError
from .connect import open_connection
from .session import Connect, Pause, Receive, Step, Steps

T = TypeVar("T")
RECEIVE_BYTES = 1 << 16


class Wire:
    """Executes the steps of a session on a socket."""

    def __init__(self, path: Path) -> None:
        """Open no connection yet."""
        self._path = path
        self._socket: socket.socket | None = None
        self._ended = False

    def run(self, steps: Steps[T]) -> T:
        """Execute all steps and return their result."""
        received: bytes | None = None
        failure: OSError | None = None
        try:
            while True:
                step = steps.send(received) if failure is None else steps.throw(failure)
                received, failure = None, None
                try:
                    received = self._execute(step)
                except OSError as error:
                    failure = error
        except StopIteration as end:
            value: T = end.value
            return value
        except McrError:
            raise
        except BaseException:
            # Raised by a signal handler: received bytes may be lost, so the connection cannot be
            # used any more.
            self._close()
            raise
        finally:
            steps.close()

    def end(self) -> None:
        """Close the connection for good; wakes a thread that waits on it."""
        self._ended = True
        if (connection := self._socket) is not None:
            with suppress(OSError):  # the daemon has closed it already
                connection.shutdown(socket.SHUT_RDWR)
            self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _execute(self, step: Step) -> bytes | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        if isinstance(step, Connect):
            self._close()
            if self._ended:
                raise McrError("the connection was closed")
            self._socket = open_connection(self._path)
            return None
        if (connection := self._socket) is None:  # another thread has closed it
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        connection.settimeout(step.timeout_s)
        if isinstance(step, Receive):
            return connection.recv(RECEIVE_BYTES)
        connection.sendall(step.data)
        return None
