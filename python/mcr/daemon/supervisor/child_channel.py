"""A socket pair between the supervisor and one child, and the messages on it.

Owns the fixed messages, and that sending never blocks. A child is not trusted: whatever is not in
the list closes its channel. Knows no processes, and nothing of what rules are.
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

from .reactor import Handler, Source

_LONGEST_BYTES = 16
_DESCRIPTORS = 1
_MESSAGES_A_TURN = 64
_QUEUE_LIMIT = 4096  # messages; with 256 workers a new control is told of fewer than 300

PULSE: Final = b"P"
READY: Final = b"Y"
KEEP: Final = b"K"
STOP: Final = b"S"
RESTART: Final = b"R"
DRAINED: Final = b"D"
KEPT: Final = b"k\x00"
"""The rule set is kept, and in the state file if there is one."""
KEPT_NOT_SAVED: Final = b"k\x01"
"""The rule set is kept, but the state file could not be written."""
_CHANNEL: Final = b"C"
_NUMBERS: Final = {RESTART: struct.Struct("<H"), READY: struct.Struct("<I")}
_PLAIN: Final = (PULSE, STOP, DRAINED)


class ChannelError(Exception):
    """A child sent what it never may; the text says what."""


@dataclass(frozen=True, slots=True)
class Message:
    """What a child said."""

    kind: bytes
    number: int | None = None
    """RESTART: the worker. READY: how many rules there are."""
    descriptor: int | None = None
    """KEEP: the memory; the receiver of the message owns it."""


class Watcher(Protocol):
    """The part of the reactor that a channel uses."""

    def watch(self, source: Source, on_read: Handler, on_write: Handler | None = None) -> None:
        """Call a handler when the source is ready."""

    def forget(self, source: Source) -> None:
        """Watch the source no longer."""


def parse(content: bytes, descriptors: list[int]) -> Message:
    """Read one message of a child.

    Raises:
        ChannelError: it is not in the list; the descriptors stay the caller's.
    """
    kind, rest = content[:1], content[1:]
    if kind == KEEP and not rest and len(descriptors) == 1:
        return Message(kind, descriptor=descriptors[0])
    if descriptors:
        raise ChannelError("sent descriptors that nobody asked for")
    if kind in _PLAIN and not rest:
        return Message(kind)
    shape = _NUMBERS.get(kind)
    if shape is not None and len(rest) == shape.size:
        return Message(kind, number=shape.unpack(rest)[0])
    raise ChannelError("sent a message that does not exist")


class ChildChannel:
    """The supervisor's end."""

    def __init__(
        self,
        end: socket.socket,
        watcher: Watcher,
        on_message: Callable[[Message], None],
        on_end: Callable[[str | None], None],
    ) -> None:
        """Take over the socket and begin to listen.

        Args:
            end: this end of the pair.
            watcher: the loop.
            on_message: called for each message, and owns its descriptor.
            on_end: called once, with what the child did wrong, or None where it closed its end.
        """
        end.setblocking(False)
        self._end = end
        self._watcher = watcher
        self._on_message = on_message
        self._on_end = on_end
        self._queue: deque[tuple[bytes, int | None]] = deque()
        self._open = True
        watcher.watch(end, self._receive)

    def send(self, content: bytes, descriptor: int | None = None) -> None:
        """Send, or queue what does not fit now; the descriptor is closed when it has gone."""
        if not self._open:
            _close(descriptor)
            return
        self._queue.append((content, descriptor))
        self._flush()
        if len(self._queue) > _QUEUE_LIMIT:
            self._finish("did not read what it was told")

    def tell(self, kind: str, descriptor: int | None = None, **fields: object) -> None:
        """Send one JSON object, as control reads it."""
        self.send(json.dumps({"kind": kind, **fields}).encode(), descriptor)

    def give_channel(self, channel: socket.socket) -> None:
        """Hand a worker its end of a new channel to control."""
        self.send(_CHANNEL, channel.detach())

    def close(self) -> None:
        """Close this end, which a child takes as the supervisor's end; twice is once."""
        if not self._open:
            return
        self._open = False
        self._watcher.forget(self._end)
        self._end.close()
        self._clear()

    def _receive(self) -> None:
        for _ in range(_MESSAGES_A_TURN):
            try:
                # One byte more than any message has shows one that is too long.
                content, descriptors, flags, _ = socket.recv_fds(
                    self._end, _LONGEST_BYTES, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                self._finish(None)
                return
            if not content:
                for descriptor in descriptors:
                    os.close(descriptor)
                self._finish(None)
                return
            if not self._take(content, descriptors, flags) or not self._open:
                return

    def _take(self, content: bytes, descriptors: list[int], flags: int) -> bool:
        try:
            if flags & socket.MSG_CTRUNC:
                raise ChannelError("sent more descriptors than a message has")
            message = parse(content, descriptors)
        except ChannelError as error:
            for descriptor in descriptors:
                os.close(descriptor)
            self._finish(str(error))
            return False
        self._on_message(message)
        return True

    def _flush(self) -> None:
        while self._queue:
            content, descriptor = self._queue[0]
            try:
                socket.send_fds(self._end, [content], [] if descriptor is None else [descriptor])
            except BlockingIOError:
                self._watcher.watch(self._end, self._receive, self._flush)
                return
            except (BrokenPipeError, ConnectionResetError):
                # The end is read as such in its turn, behind what the child has still said.
                self._clear()
                break
            except OSError as error:
                self._finish(f"could not be told anything: {error.strerror}")
                return
            self._queue.popleft()
            _close(descriptor)
        self._watcher.watch(self._end, self._receive)

    def _clear(self) -> None:
        for _, descriptor in self._queue:
            _close(descriptor)
        self._queue.clear()

    def _finish(self, fault: str | None) -> None:
        if self._open:
            self.close()
            self._on_end(fault)


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        with suppress(OSError):
            os.close(descriptor)
