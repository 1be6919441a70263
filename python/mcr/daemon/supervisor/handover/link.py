"""The connection between two supervisors: a SEQPACKET socket; sending never blocks."""

import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from ...seqpacket import receive_message
from ..reactor import Reactor
from .form import DESCRIPTORS, MESSAGE_BYTES, Form, FormError, Kind

_MESSAGES_PER_READ = 64


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be sent."""

    form: Form
    descriptors: tuple[int, ...] = ()
    owned: tuple[int, ...] = ()
    """Those that are closed once they are sent."""


@dataclass(slots=True)
class Incoming:
    """A message that was received; its descriptors belong to whoever takes it."""

    form: Form
    descriptors: list[int] = field(default_factory=list)

    def take(self, count: int) -> list[int]:
        """Return the descriptors.

        Raises:
            FormError: there are not so many; they are closed.
        """
        taken, self.descriptors = self.descriptors, []
        if len(taken) != count:
            close_all(taken)
            raise FormError(f"{self.form.kind.name} with {len(taken)} descriptors")
        return taken

    def close(self) -> None:
        """Close the descriptors that were not taken."""
        close_all(self.descriptors)
        self.descriptors = []


class SupervisorLink:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        """Take ownership of a connected SEQPACKET socket."""
        end.setblocking(False)
        self._socket = end
        self._reactor: Reactor | None = None
        self._on_message: Callable[[Incoming], None] = Incoming.close
        self._on_end: Callable[[str | None], None] = lambda _fault: None
        self._queue: deque[Iterator[Outgoing]] = deque()
        self._next: Outgoing | None = None
        self.is_open = True

    def watch(
        self,
        reactor: Reactor,
        on_message: Callable[[Incoming], None],
        on_end: Callable[[str | None], None],
    ) -> None:
        """Receive in an event loop from now on.

        Args:
            reactor: the event loop.
            on_message: called for each message; one that raises `FormError` ends the connection.
            on_end: called once: with None if the other end is closed, or with its fault.
        """
        self._reactor, self._on_message, self._on_end = reactor, on_message, on_end
        reactor.watch(self._socket, self._receive_all)

    def receive(self, until_s: float) -> Incoming:
        """Wait for a message, without an event loop.

        Args:
            until_s: a time of the monotonic clock.

        Raises:
            TimeoutError: none has come in time.
            FormError: the message has another form.
            ConnectionError: the other end is closed.
        """
        while True:
            try:
                found = self._receive()
            except BlockingIOError:
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError from None
                select.select([self._socket], [], [], left_s)
                continue
            if found is None:
                raise ConnectionResetError
            return found

    def send(self, *messages: Outgoing) -> None:
        """Send messages, or queue them if the socket is full."""
        self.send_all(messages)

    def send_all(self, messages: Iterable[Outgoing]) -> None:
        """The same with messages that are made when there is room for them."""
        self._queue.append(iter(messages))
        self._flush()

    def say(self, kind: Kind, number: int = 0, value: int = 0) -> None:
        """Send a message without descriptors."""
        self.send(Outgoing(Form(kind, number, (value, 0, 0, 0))))

    def close(self) -> None:
        """Close this end. Idempotent."""
        if not self.is_open:
            return
        self.is_open = False
        if self._reactor is not None:
            self._reactor.forget(self._socket)
        self._socket.close()
        if self._next is not None:
            close_all(self._next.owned)
        for messages in self._queue:
            for each in messages:
                close_all(each.owned)
        self._queue.clear()

    def _receive_all(self) -> None:
        for _ in range(_MESSAGES_PER_READ):
            try:
                found = self._receive()
            except BlockingIOError:
                return
            except FormError as error:
                self._end(f"sent {error}")
                return
            if found is None:
                self._end(None)
                return
            try:
                self._on_message(found)
            except FormError as error:
                self._end(f"sent {error}")
            finally:
                found.close()
            if not self.is_open:
                return

    def _receive(self) -> Incoming | None:
        """The next message; None at the end."""
        try:
            content, descriptors, flags = receive_message(
                self._socket, MESSAGE_BYTES + 1, DESCRIPTORS
            )
        except ConnectionError:
            return None
        if not content:
            return None
        try:
            if flags & socket.MSG_CTRUNC:
                raise FormError("descriptors for which there was no room")
            return Incoming(Form.from_bytes(content), descriptors)
        except FormError:
            close_all(descriptors)
            raise

    def _flush(self) -> None:
        while self.is_open and (self._next is not None or self._queue):
            if self._next is None:
                self._next = next(self._queue[0], None)
                if self._next is None:
                    self._queue.popleft()
                    continue
            try:
                socket.send_fds(
                    self._socket, [self._next.form.to_bytes()], list(self._next.descriptors)
                )
            except BlockingIOError:
                if self._reactor is not None:
                    self._reactor.watch(self._socket, self._receive_all, self._flush)
                return
            except OSError:
                # Receiving reports the end, after the last messages of the other side.
                return
            close_all(self._next.owned)
            self._next = None
        if self.is_open and self._reactor is not None:
            self._reactor.watch(self._socket, self._receive_all)

    def _end(self, fault: str | None) -> None:
        if self.is_open:
            self.close()
            self._on_end(fault)


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
