"""HTTP connections with limits: their number, the time for a request, and slow readers.

uvicorn itself waits without end for the rest of a request, and for a client that does not read.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from . import limits

_CHECK_S = 2.0


class LimitedConnection(H11Protocol):
    """A connection that is closed when it exceeds a limit."""

    _check: asyncio.TimerHandle | None = None
    _idle_since_s: float = 0.0
    _unread_bytes = 0
    _unread_since_s: float = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to watch the connection; make room for it if there are too many."""
        super().connection_made(transport)
        self._idle_since_s = self._unread_since_s = self.loop.time()
        self._check = self.loop.call_later(_CHECK_S, self._close_overdue)
        if len(self.connections) > limits.CONNECTIONS:
            waiting = [
                each
                for each in self.connections
                if isinstance(each, LimitedConnection) and not each.is_answering
            ]
            min(waiting, key=lambda each: each._idle_since_s).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no longer."""
        if self._check is not None:
            self._check.cancel()
        super().connection_lost(exc)

    @property
    def is_answering(self) -> bool:
        """Whether a complete request waits for the end of its answer."""
        return self.cycle is not None and not self.cycle.response_complete

    def on_response_complete(self) -> None:
        """Wait for the next request from now on."""
        self._idle_since_s = self.loop.time()
        super().on_response_complete()

    def _should_upgrade(self) -> Any:  # noqa: ANN401 -- as in uvicorn
        """Never: there are no WebSockets here."""
        return None

    def _close_overdue(self) -> None:
        now_s = self.loop.time()
        unread_bytes = self.transport.get_write_buffer_size()
        if not unread_bytes or unread_bytes < self._unread_bytes:
            self._unread_since_s = now_s
        self._unread_bytes = unread_bytes
        stalls = now_s - self._unread_since_s > limits.STALL_S
        waits = not self.is_answering and not unread_bytes
        if stalls or (waits and now_s - self._idle_since_s > limits.REQUEST_S):
            self.transport.abort()
        else:
            self._check = self.loop.call_later(_CHECK_S, self._close_overdue)
