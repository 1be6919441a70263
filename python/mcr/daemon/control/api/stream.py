"""Lines of bytes between this process and one client, within limits.

Owns what has arrived and what has not been read yet, and when a peer must go because of it. Knows
neither JSON nor what the lines say.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import cast

from ....protocol.jsonl import LineBuffer
from .. import limits

_BLOCK_BYTES = 64 << 10  # small pieces are joined to one system call
_LINGER_S = 2.0


class Budget:
    """Bytes that all connections share; whoever holds the most goes when they are used up."""

    def __init__(self, limit_bytes: int) -> None:
        """Start with nothing taken."""
        self._limit_bytes = limit_bytes
        self._held: dict[LineStream, int] = {}
        self._sum = 0

    def hold(self, lines: "LineStream", held_bytes: int) -> None:
        """Note how much a connection holds now; 0 forgets it."""
        before = self._held.pop(lines, 0)
        self._sum += held_bytes - before
        if held_bytes:
            self._held[lines] = held_bytes
        if self._sum > self._limit_bytes:
            max(self._held, key=lambda each: self._held[each]).abort()


class LineStream(asyncio.Protocol):
    """A connection, as lines in and pieces of bytes out."""

    def __init__(
        self, incoming: Budget, outgoing: Budget, gone: Callable[["LineStream"], None]
    ) -> None:
        """Take the budgets of all connections, and what is called once when this one is over."""
        self._incoming, self._outgoing, self._gone = incoming, outgoing, gone
        self._transport: asyncio.Transport | None = None
        self._buffer = LineBuffer()
        self._half_since_s: float | None = None
        self._arrived = asyncio.Event()
        self._ended = False
        self._pieces: deque[bytes] = deque()
        self._pieces_bytes = 0
        self._sent_bytes = self._progress_bytes = 0
        self._progress_s = time.monotonic()
        self._writable = True
        self._closing = False
        self._lingers = self._finished = False
        self.on_room: Callable[[], None] | None = None
        """Called whenever something was read by the peer."""

    @property
    def is_over(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport is None or self._transport.is_closing() or self._closing

    @property
    def unread_bytes(self) -> int:
        """What the peer has not read yet, as far as this process holds it."""
        waiting = self._transport.get_write_buffer_size() if self._transport else 0
        return self._pieces_bytes + waiting

    async def next(self) -> bytes | None:
        """The next line without its line feed; None when the peer has closed or is gone.

        Raises:
            LineTooLong: the peer sends more than a line may hold.
        """
        while True:
            line = self._buffer.take()
            self._account()
            if line is not None:
                return line
            if self._ended:
                return self._buffer.rest() or None
            self._arrived.clear()
            await self._arrived.wait()

    def send(self, pieces: Iterable[bytes]) -> None:
        """Send pieces in order; never waits. A peer that leaves too much unread is cut off."""
        if self.is_over:
            return
        if self.unread_bytes == 0:
            self._progress_s = time.monotonic()
        for piece in pieces:
            self._pieces.append(piece)
            self._pieces_bytes += len(piece)
        self._write()
        if self.unread_bytes > limits.UNREAD_BYTES:
            self.abort()

    def close(self, *, linger: bool = True) -> None:
        """Send what waits, then close; nothing that comes is read any more.

        Lingering gives the peer, which may be sending, the time to see why.
        """
        self._closing = True
        self._lingers = linger and not self._ended
        self._buffer.rest()
        self._account()
        if not self._pieces:
            self._finish()

    def abort(self) -> None:
        """Close at once, without sending what waits."""
        if self._transport is not None:
            self._transport.abort()

    def overdue(self, now_s: float) -> str | None:
        """Why the peer must go at this time of `time.monotonic`; None while it need not."""
        if self._half_since_s is not None and now_s - self._half_since_s > limits.HALF_LINE_S:
            return f"half a line was older than {limits.HALF_LINE_S:.0f} s"
        unread_bytes = self.unread_bytes
        progress_bytes = self._sent_bytes - (unread_bytes - self._pieces_bytes)
        if progress_bytes != self._progress_bytes or not unread_bytes:
            self._progress_bytes, self._progress_s = progress_bytes, now_s
        if now_s - self._progress_s > limits.UNREAD_S:
            return f"it read nothing for {limits.UNREAD_S:.0f} s"
        return None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_BLOCK_BYTES)

    def data_received(self, data: bytes) -> None:
        """Asyncio: bytes have come."""
        if self._closing:
            return
        self._buffer.feed(data)
        self._account()
        self._arrived.set()

    def eof_received(self) -> bool:
        """Asyncio: the peer sends no more; what it asked for is still answered."""
        self._ended = True
        self._arrived.set()
        return not self._closing

    def pause_writing(self) -> None:
        """Asyncio: the peer reads slower than we write."""
        self._writable = False

    def resume_writing(self) -> None:
        """Asyncio: the peer has read."""
        self._writable = True
        self._write()
        if self.on_room is not None:
            self.on_room()

    def connection_lost(self, error: Exception | None) -> None:
        """Asyncio: it is over."""
        self._transport = None
        self._ended = True
        self._buffer.rest()
        self._pieces.clear()
        self._pieces_bytes = 0
        self._account()
        self._outgoing.hold(self, 0)
        self._arrived.set()
        self._gone(self)

    def _account(self) -> None:
        """Bring up to date what depends on how much has arrived."""
        self._incoming.hold(self, len(self._buffer) if self._transport else 0)
        half = self._buffer.lines == 0 and len(self._buffer) > 0
        if not half:
            self._half_since_s = None
        elif self._half_since_s is None:
            self._half_since_s = time.monotonic()
        if self._transport is None or self._transport.is_closing():
            return
        ahead = len(self._buffer) if self._buffer.lines else 0
        if ahead > limits.AHEAD_BYTES or self._buffer.lines >= limits.REQUESTS_WAITING:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _write(self) -> None:
        while self._pieces and self._writable and self._transport is not None:
            if self._transport.is_closing():  # asyncio would complain of it on standard error
                break
            block = [self._pieces.popleft()]
            size = len(block[0])
            while self._pieces and size + len(self._pieces[0]) <= _BLOCK_BYTES:
                block.append(self._pieces.popleft())
                size += len(block[-1])
            self._pieces_bytes -= size
            self._sent_bytes += size
            self._transport.write(block[0] if len(block) == 1 else b"".join(block))
        self._outgoing.hold(self, self.unread_bytes if self._transport else 0)
        if self._closing and not self._pieces:
            self._finish()

    def _finish(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self._finished:
            return
        self._finished = True
        if self._lingers:
            with suppress(OSError):
                transport.write_eof()
            asyncio.get_running_loop().call_later(_LINGER_S, transport.abort)
        else:
            transport.close()
