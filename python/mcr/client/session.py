"""A client's conversation with the daemon: connecting, greeting, requests, answers, retries.

Owns all decisions that both clients share: what is repeated, the time limits, the error messages.
Does no input or output: each method is a generator that yields steps. `sync` or `aio` executes a
step and sends the received bytes back.
"""

import errno
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import DaemonError, McrError, RightsError
from ..json_codec import adapter_of
from ..protocol.constants import LINE_BYTES, PROTOCOL, ROOT_SOCKET, default_socket
from ..protocol.jsonl import LineBuffer, LineTooLong
from ..protocol.results import Hello
from . import methods
from .jsonrpc import Malformed, Notification, Response, read_line, request_line
from .methods import Call

T = TypeVar("T")
RETRY_S = 0.05
"""The delay before another attempt to connect, in seconds."""
_NOT_LISTENING = (errno.ENOENT, errno.ECONNREFUSED)
_FULL = (errno.EAGAIN,)  # the listener's backlog is full (connect(2))


@dataclass(frozen=True, slots=True)
class Connect:
    """Close the connection, if there is one, and open a new one."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send all data."""

    data: bytes
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Receive:
    """Receive bytes; an empty result means that the daemon has closed the connection."""

    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


Step = Connect | Send | Receive | Pause
Steps = Generator[Step, bytes | None, T]
"""The executor of the steps sends received bytes into the generator, or throws an OSError."""


class _Lost(Exception):
    """The connection ended before the answer arrived."""

    def __init__(self, *, was_sent: bool) -> None:
        """Record whether the complete request was sent."""
        self.was_sent = was_sent


class Session:
    """A conversation with one daemon, across connections."""

    def __init__(
        self, path: Path, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Create the session; it connects with the first request.

        Args:
            path: the daemon's socket.
            timeout_s: the time limit for each request, in seconds.
            clock: a monotonic clock, in seconds.
        """
        adapter_of(Hello)  # loads pydantic now, outside the time limit of the first request
        self.path = path
        self.timeout_s = timeout_s
        self.hello: Hello | None = None
        """The greeting of the last connection; None before the first."""
        self._clock = clock
        self._lines = LineBuffer()
        self._number = 0
        self._revision = 0
        # Whether the connection is open and no answer is pending. False during a request, so that
        # the answer to an interrupted request is never read as the answer to the next one.
        self._usable = False

    def request(self, call: Call[T]) -> Steps[T]:
        """Send a request and return its result; after a lost connection, repeat it where safe.

        Raises:
            McrError: the daemon refused the request, or did not answer within the time limit.
        """
        deadline = self._clock() + self.timeout_s
        for may_repeat in (True, False):
            yield from self._ensure_connection(deadline)
            try:
                return (yield from self._exchange(call, deadline))
            except _Lost as lost:
                # The daemon never executes an incomplete request.
                if not may_repeat or (lost.was_sent and call.doubt):
                    raise self._no_answer("closed the connection without an answer", call) from None
        raise AssertionError("the second attempt returns or raises")

    def connect(self) -> Steps[Hello]:
        """Connect, unless there is a usable connection; return the daemon's greeting.

        Raises:
            McrError: the connection failed.
        """
        yield from self._ensure_connection(self._clock() + self.timeout_s)
        assert self.hello is not None  # else it would have raised
        return self.hello

    def deadline(self, timeout_s: float | None) -> float | None:
        """The end of a time limit that starts now, by the session's clock; None for no limit."""
        return None if timeout_s is None else self._clock() + timeout_s

    def listen(self, deadline: float | None) -> Steps[Notification | None]:
        """Wait for a notification; None at the deadline, or if the connection has ended.

        Raises:
            DaemonError: another message arrived.
        """
        try:
            message = yield from self._message(deadline)
        except TimeoutError:
            return None
        except _Lost:
            self._usable = False
            return None
        if not isinstance(message, Notification):
            self._usable = False
            raise message.error or self._unexpected("an answer without a request")
        return message

    @property
    def is_connected(self) -> bool:
        """Whether there is a usable connection."""
        return self._usable

    def _ensure_connection(self, deadline: float) -> Steps[None]:
        """Connect and greet the daemon, unless there is a usable connection."""
        is_reconnect = self.hello is not None
        while not self._usable:
            try:
                yield Connect()
                self._lines = LineBuffer()
                self.hello = yield from self._exchange(methods.hello(), deadline)
                self._check(self.hello)
                return
            except _Lost:
                error: McrError = self._no_answer("closed the connection at once")
                may_retry = is_reconnect
            except McrError:  # before OSError, as some are both
                self._usable = False
                raise
            except TimeoutError:
                raise self._timed_out() from None
            except OSError as failure:
                error = self._unreachable(failure)
                may_retry = failure.errno in _FULL or (
                    is_reconnect and failure.errno in _NOT_LISTENING
                )
            # A daemon that answered before may be restarting.
            if not may_retry or self._clock() + RETRY_S >= deadline:
                raise error
            yield Pause(RETRY_S)

    def _check(self, hello: Hello) -> None:
        if hello.protocol != PROTOCOL:
            raise DaemonError(
                f"the daemon at {self.path} speaks protocol {hello.protocol}, this client"
                f" {PROTOCOL}: use the mcr of the daemon's version"
            )

    def _exchange(self, call: Call[T], deadline: float) -> Steps[T]:
        self._usable = False
        self._number += 1
        line = request_line(self._number, call.method, call.params)
        try:
            yield Send(line, self._left(deadline))
        except TimeoutError:
            raise self._timed_out() from None
        except OSError:
            # The daemon may have sent an error, such as a refusal, before it closed the connection.
            yield from self._raise_pending_error(deadline)
            raise _Lost(was_sent=False) from None
        answer = yield from self._answer(call, deadline)
        self._usable = True
        if answer.error is not None:
            raise answer.error
        self._revision = getattr(answer.result, "revision", self._revision)
        return call.value(answer.result)

    def _answer(self, call: Call[T], deadline: float) -> Steps[Response[Any]]:
        while True:
            try:
                message = yield from self._message(deadline, call.result)
            except TimeoutError:
                raise self._timed_out(call) from None
            if isinstance(message, Notification):
                continue
            if message.id == self._number:
                return message
            if message.id is None and message.error is not None:
                raise message.error
            raise self._unexpected("an answer without a request")

    def _raise_pending_error(self, deadline: float) -> Steps[None]:
        try:
            message = yield from self._message(deadline)
        except (TimeoutError, _Lost):
            return
        if isinstance(message, Response) and message.id is None and message.error is not None:
            raise message.error

    def _message(
        self, deadline: float | None, result: type[Any] = object
    ) -> Steps[Response[Any] | Notification]:
        try:
            while (line := self._lines.take()) is None:
                left = None if deadline is None else self._left(deadline)
                try:
                    data = yield Receive(left)
                except TimeoutError:
                    raise
                except OSError:
                    data = b""
                if not data:
                    raise _Lost(was_sent=True)
                self._lines.feed(data)
            return read_line(line, result)
        except LineTooLong:
            self._usable = False
            raise self._unexpected(f"a line of more than {LINE_BYTES} bytes") from None
        except Malformed as error:
            self._usable = False
            raise self._unexpected(str(error)) from None

    def _left(self, deadline: float) -> float:
        left = deadline - self._clock()
        if left <= 0:
            raise TimeoutError
        return left

    def _timed_out(self, call: Call[T] | None = None) -> DaemonError:
        return self._no_answer(f"did not answer within {self.timeout_s:g} s", call)

    def _no_answer(self, what: str, call: Call[T] | None = None) -> DaemonError:
        doubt = call.doubt.format(revision=self._revision) if call else ""
        end = f"; {doubt}" if doubt else ""
        return DaemonError(f"the daemon at {self.path} {what}{end}")

    def _unexpected(self, what: str) -> DaemonError:
        return DaemonError(f"the daemon at {self.path} sent {what}; is it an mcr daemon?")

    def _unreachable(self, error: OSError) -> McrError:
        if error.errno == errno.ENOENT:
            roots = self.path == default_socket() != ROOT_SOCKET and os.path.exists(ROOT_SOCKET)
            other = f", or use that of root with --socket {ROOT_SOCKET}" if roots else ""
            return DaemonError(f"no daemon listens at {self.path}; start one with mcr serve{other}")
        if error.errno == errno.ECONNREFUSED and self.path.is_socket():
            return DaemonError(
                f"the daemon at {self.path} has exited and left its socket behind; start it again"
                " with mcr serve"
            )
        if error.errno == errno.ECONNREFUSED:
            return DaemonError(f"{self.path} is not a socket; name the one that mcr serve created")
        if error.errno in _FULL:
            return DaemonError(
                f"the daemon at {self.path} accepts no connection: its backlog is full"
            )
        if error.errno in (errno.EACCES, errno.EPERM):
            return RightsError(
                f"this user may not use the daemon at {self.path}: use sudo, or become a member of"
                " the socket's group"
            )
        return DaemonError(f"cannot connect to {self.path}: {error.strerror or error}")
