"""The supervisor's channel to a child: a SEQPACKET socket and a fixed set of messages.

Sending never blocks. Children are not trusted: an unknown message closes the channel.
"""

import json
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from ..seqpacket import receive_message
from .reactor import Handler, Source

_BUFFER_BYTES = 16
_DESCRIPTORS = 1
_MESSAGES_PER_READ = 64
_QUEUE_LIMIT = 4096  # messages; with 256 workers, a new control process gets fewer than 300

HEARTBEAT: Final = b"P"
READY: Final = b"Y"
KEEP: Final = b"K"
STOP: Final = b"S"
RESTART: Final = b"R"
DRAINED: Final = b"D"
LOAD: Final = b"L"
"""Read the configuration again, with the include patterns in the memory, one a line."""
HELD: Final = b"H"
"""Control makes no more changes, for a handover to another daemon."""
STOPPED: Final = b"E"
"""The engines have stopped, for a handover."""
RELOADED: Final = b"A"
"""Control has applied or refused what it was sent with this number, to reload it."""
CHECKED: Final = b"V"
"""Control has read the rules of the daemon that it takes over, and waits for the workers."""
KEPT: Final = b"k\x00"
"""The supervisor has the snapshot, and has written it to the state file if there is one."""
KEPT_NOT_SAVED: Final = b"k\x01"
"""The supervisor has the snapshot, but could not write the state file."""
_CHANNEL: Final = b"C"
_NUMBERS: Final = {
    RESTART: struct.Struct("<HI"),
    READY: struct.Struct("<I"),
    RELOADED: struct.Struct("<I"),
}
_WITHOUT_NUMBER: Final = (HEARTBEAT, STOP, DRAINED, HELD, STOPPED, CHECKED)


class ChannelError(Exception):
    """A child violated the protocol; the text says how."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message from a child."""

    kind: bytes
    number: int | None = None
    """RESTART: the worker's number. READY: the number of rules. RELOADED: the number of what was
    sent."""
    pid: int | None = None
    """RESTART: the process that is to be killed; it may have a successor by now."""
    descriptor: int | None = None
    """KEEP: the memory with the snapshot. LOAD: that with the patterns. The receiver of the message
    owns it."""


class Watcher(Protocol):
    """The methods of `Reactor` that a channel uses."""

    def watch(self, source: Source, on_read: Handler, on_write: Handler | None = None) -> None:
        """Call a handler when the source is ready."""

    def forget(self, source: Source) -> None:
        """Stop watching the source."""


def parse(content: bytes, descriptors: list[int]) -> Message:
    """Parse one message from a child.

    Raises:
        ChannelError: the message is unknown or malformed; the caller still owns the descriptors.
    """
    kind, rest = content[:1], content[1:]
    if kind in (KEEP, LOAD) and not rest and len(descriptors) == 1:
        return Message(kind, descriptor=descriptors[0])
    if descriptors:
        raise ChannelError("sent unexpected descriptors")
    if kind in _WITHOUT_NUMBER and not rest:
        return Message(kind)
    layout = _NUMBERS.get(kind)
    if layout is not None and len(rest) == layout.size:
        number, *pid = layout.unpack(rest)
        return Message(kind, number=number, pid=pid[0] if pid else None)
    raise ChannelError("sent an unknown message")


class ChildChannel:
    """The supervisor's end."""

    def __init__(
        self,
        own_end: socket.socket,
        watcher: Watcher,
        on_message: Callable[[Message], None],
        on_close: Callable[[str | None], None],
    ) -> None:
        """Take ownership of the socket and watch it.

        Args:
            own_end: the supervisor's end of a SEQPACKET socket pair.
            watcher: the reactor.
            on_message: called for each message; owns its descriptor.
            on_close: called once, with the fault of the child, or None if it closed its end.
        """
        own_end.setblocking(False)
        self._socket = own_end
        self._watcher = watcher
        self._on_message = on_message
        self._on_close = on_close
        self._queue: deque[tuple[bytes, int | None]] = deque()
        self._is_open = True
        watcher.watch(own_end, self._receive)

    def send(self, content: bytes, descriptor: int | None = None) -> None:
        """Send a message, or queue it if the socket is full; close the descriptor once it is sent.

        A queue above its limit closes the channel.
        """
        if not self._is_open:
            _close(descriptor)
            return
        self._queue.append((content, descriptor))
        self._flush()
        if len(self._queue) > _QUEUE_LIMIT:
            self._fail("did not read its messages")

    def send_json(self, kind: str, descriptor: int | None = None, **fields: object) -> None:
        """Send a message to control: one JSON object."""
        self.send(json.dumps({"kind": kind, **fields}).encode(), descriptor)

    def send_worker_channel(self, channel: socket.socket) -> None:
        """Send a worker its end of a new channel to control."""
        self.send(_CHANNEL, channel.detach())

    def close(self) -> None:
        """Close this end, which tells the child to exit. Idempotent."""
        if not self._is_open:
            return
        self._is_open = False
        self._watcher.forget(self._socket)
        self._socket.close()
        self._clear_queue()

    def _receive(self) -> None:
        for _ in range(_MESSAGES_PER_READ):
            try:
                # The buffer is longer than any message, so that one that is too long shows.
                content, descriptors, flags = receive_message(
                    self._socket, _BUFFER_BYTES, _DESCRIPTORS
                )
            except BlockingIOError:
                return
            except OSError:
                self._fail(None)
                return
            if not content:
                for descriptor in descriptors:
                    os.close(descriptor)
                self._fail(None)
                return
            if not self._handle(content, descriptors, flags) or not self._is_open:
                return

    def _handle(self, content: bytes, descriptors: list[int], flags: int) -> bool:
        try:
            if flags & socket.MSG_CTRUNC:
                raise ChannelError("sent too many descriptors with a message")
            message = parse(content, descriptors)
        except ChannelError as error:
            for descriptor in descriptors:
                os.close(descriptor)
            self._fail(str(error))
            return False
        self._on_message(message)
        return True

    def _flush(self) -> None:
        while self._queue:
            content, descriptor = self._queue[0]
            try:
                socket.send_fds(self._socket, [content], [] if descriptor is None else [descriptor])
            except BlockingIOError:
                self._watcher.watch(self._socket, self._receive, self._flush)
                return
            except (BrokenPipeError, ConnectionResetError):
                # `_receive` sees the end of the stream, after the child's last messages.
                self._clear_queue()
                break
            except OSError as error:
                self._fail(f"could not be sent a message: {error.strerror}")
                return
            self._queue.popleft()
            _close(descriptor)
        self._watcher.watch(self._socket, self._receive)

    def _clear_queue(self) -> None:
        for _, descriptor in self._queue:
            _close(descriptor)
        self._queue.clear()

    def _fail(self, fault: str | None) -> None:
        if self._is_open:
            self.close()
            self._on_close(fault)


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        with suppress(OSError):
            os.close(descriptor)
