"""Lines of bytes to and from one client, within limits of memory and time.

Owns the received and the unread bytes of a connection, and closes it when they exceed a limit.
"""

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import cast

from ....protocol.jsonl import LineBuffer
from .. import limits

_BLOCK_BYTES = 64 << 10  # small pieces are joined and sent by one system call
_LINGER_S = 2.0


class Budget:
    """A limit on the bytes of all connections; above it the largest connection is closed."""

    def __init__(self, limit_bytes: int) -> None:
        """Start with no bytes in use."""
        self._limit_bytes = limit_bytes
        self._held: dict[LineStream, int] = {}
        self._sum = 0

    def hold(self, lines: "LineStream", held_bytes: int) -> None:
        """Record how many bytes a connection holds now; 0 removes it."""
        before = self._held.pop(lines, 0)
        self._sum += held_bytes - before
        if held_bytes:
            self._held[lines] = held_bytes
        if self._sum > self._limit_bytes:
            max(self._held, key=lambda each: self._held[each]).abort()


class LineStream(asyncio.Protocol):
    """A connection that receives lines and sends pieces of bytes."""

    def __init__(
        self, incoming: Budget, outgoing: Budget, on_close: Callable[["LineStream"], None]
    ) -> None:
        """Create the protocol of one connection.

        Args:
            incoming: the budget for received bytes.
            outgoing: the budget for unread bytes.
            on_close: called once, when the connection is closed.
        """
        self._incoming, self._outgoing, self._on_close = incoming, outgoing, on_close
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
        self._descriptors: list[int] = []
        self._lingers = self._finished = False
        self.on_room: Callable[[], None] | None = None
        """Called whenever the peer has read some of the output."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing more can be sent."""
        return self._transport is None or self._transport.is_closing() or self._closing

    @property
    def unread_bytes(self) -> int:
        """The bytes in this process that the peer has not read yet."""
        waiting = self._transport.get_write_buffer_size() if self._transport else 0
        return self._pieces_bytes + waiting

    async def next(self) -> bytes | None:
        """Return the next line without its line feed; None when the connection has ended.

        Raises:
            LineTooLong: the line exceeds the limit.
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
        """Send pieces in order, without waiting; above the limit for unread bytes, abort."""
        if self.is_closed:
            return
        if self.unread_bytes == 0:
            self._progress_s = time.monotonic()
        for piece in pieces:
            self._pieces.append(piece)
            self._pieces_bytes += len(piece)
        self._write()
        if self.unread_bytes > limits.UNREAD_BYTES:
            self.abort()

    def attach(self, descriptors: Iterable[int]) -> None:
        """Send descriptors with the next bytes; they are closed here."""
        self._descriptors.extend(descriptors)

    def close(self, *, linger: bool = True) -> None:
        """Send the pending output, then close; discard further input.

        Args:
            linger: give the peer, which may still be sending, time to read the output.
        """
        self._closing = True
        self._lingers = linger and not self._ended
        self._buffer.rest()
        self._account()
        if not self._pieces:
            self._finish()

    def abort(self) -> None:
        """Close at once, without the pending output."""
        if self._transport is not None:
            self._transport.abort()

    def overdue(self, now_s: float) -> str | None:
        """The time limit that the peer exceeds, as a phrase; None if it exceeds none.

        Args:
            now_s: the time of `time.monotonic`.
        """
        if self._half_since_s is not None and now_s - self._half_since_s > limits.HALF_LINE_S:
            return f"an incomplete line was older than {limits.HALF_LINE_S:.0f} s"
        unread_bytes = self.unread_bytes
        progress_bytes = self._sent_bytes - (unread_bytes - self._pieces_bytes)
        if progress_bytes != self._progress_bytes or not unread_bytes:
            self._progress_bytes, self._progress_s = progress_bytes, now_s
        if now_s - self._progress_s > limits.UNREAD_S:
            return f"it read nothing for {limits.UNREAD_S:.0f} s"
        return None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the connection is open."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_BLOCK_BYTES)

    def data_received(self, data: bytes) -> None:
        """Asyncio: bytes have arrived."""
        if self._closing:
            return
        self._buffer.feed(data)
        self._account()
        self._arrived.set()

    def eof_received(self) -> bool:
        """Asyncio: the peer sends no more; its pending requests are still answered."""
        self._ended = True
        self._arrived.set()
        return not self._closing

    def pause_writing(self) -> None:
        """Asyncio: the write buffer is full."""
        self._writable = False

    def resume_writing(self) -> None:
        """Asyncio: the write buffer has room again."""
        self._writable = True
        self._write()
        if self.on_room is not None:
            self.on_room()

    def connection_lost(self, error: Exception | None) -> None:
        """Asyncio: the connection is closed."""
        self._transport = None
        self._ended = True
        while self._descriptors:
            os.close(self._descriptors.pop())
        self._buffer.rest()
        self._pieces.clear()
        self._pieces_bytes = 0
        self._account()
        self._outgoing.hold(self, 0)
        self._arrived.set()
        self._on_close(self)

    def _account(self) -> None:
        """Update the budget and the time limit, and pause reading above the read-ahead limits."""
        self._incoming.hold(self, len(self._buffer) if self._transport else 0)
        is_incomplete = self._buffer.lines == 0 and len(self._buffer) > 0
        if not is_incomplete:
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
            if self._transport.is_closing():  # asyncio would log a warning
                break
            block = [self._pieces.popleft()]
            size = len(block[0])
            while self._pieces and size + len(self._pieces[0]) <= _BLOCK_BYTES:
                block.append(self._pieces.popleft())
                size += len(block[-1])
            self._pieces_bytes -= size
            self._sent_bytes += size
            data = block[0] if len(block) == 1 else b"".join(block)
            if self._descriptors:
                data = self._send_descriptors(self._transport, data)
            self._transport.write(data)
        self._outgoing.hold(self, self.unread_bytes if self._transport else 0)
        if self._closing and not self._pieces:
            self._finish()

    def _send_descriptors(self, transport: asyncio.Transport, data: bytes) -> bytes:
        """Send the first byte with the descriptors; return the others."""
        descriptors, self._descriptors = self._descriptors, []
        try:
            if transport.get_write_buffer_size():  # they would overtake what waits there
                raise BlockingIOError
            number = transport.get_extra_info("socket").fileno()
            with socket.socket(fileno=os.dup(number)) as connection:
                socket.send_fds(connection, [data[:1]], descriptors)
        except OSError:  # a client that does not read, or is gone
            transport.abort()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return data[1:]

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
