"""A tap of a daemon: a connection of its own, which ends it, and the rings that come over it."""

import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .._native import TapReader
from ..errors import DaemonError, McrError
from ..taps.filter import TapFilter
from ..taps.names import Names
from ..taps.stream import TapSource
from . import methods
from .session import Receive, Session, Step
from .wire import RECEIVE_BYTES, Wire

_MOST_DESCRIPTORS = 253  # of one message (unix(7), SCM_RIGHTS)


class _RightsWire(Wire):
    """A connection over which descriptors come."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.descriptors: list[int] = []

    def _execute(self, step: Step) -> bytes | None:
        if not isinstance(step, Receive) or self._socket is None:
            return super()._execute(step)
        self._socket.settimeout(step.timeout_s)
        flags = socket.MSG_CMSG_CLOEXEC
        data, descriptors, _flags, _address = socket.recv_fds(
            self._socket, RECEIVE_BYTES, _MOST_DESCRIPTORS, flags
        )
        self.descriptors.extend(descriptors)
        return data

    @property
    def is_open(self) -> bool:
        """Whether the daemon has not closed the connection, on which it sends nothing more."""
        if self._socket is None:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        return not poll.poll(0)


class DaemonTap:
    """What the workers of a daemon record, until the connection ends."""

    def __init__(self, path: Path, timeout_s: float, wanted: TapFilter) -> None:
        """Connect, and have the workers record.

        Raises:
            RuleError: there is no such rule, output or reason.
            McrError: the daemon refused, or does not answer.
        """
        self._path = path
        self._wire = _RightsWire(path)
        session = Session(path, timeout_s)
        try:
            started = self._wire.run(session.request(methods.start_tap(wanted)))
            self.names = Names.of(started.interfaces, started.rules)
            if len(self._wire.descriptors) != started.workers:
                raise DaemonError(f"the daemon at {path} sent no ring for each of its workers")
            self.readers = tuple(map(TapReader, self._wire.descriptors))
        except BaseException:
            self.close()
            raise
        finally:
            for descriptor in self._wire.descriptors:
                os.close(descriptor)

    def check(self) -> None:
        """Raise DaemonError if the daemon has closed the connection."""
        if not self._wire.is_open:
            raise DaemonError(f"the daemon at {self._path} has ended the capture")

    def close(self) -> None:
        """End the tap. Idempotent."""
        with suppress(McrError):
            self._wire.end()


def daemon_tap(path: Path, timeout_s: float, wanted: TapFilter) -> Callable[[], TapSource]:
    """What begins a tap of the daemon at this path."""
    return lambda: DaemonTap(path, timeout_s, wanted)
