"""What a client says to the daemon and in which order: greeting, request, answer, starting anew.

Owns every decision: what is repeated, how long is waited, what the errors say. Does no input or
output: each method is a generator that yields steps, which `blocking` or `asynchronous` take, and
gets back what came. So both clients are one.
"""

import errno
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import DaemonError, McrError, RightsError
from ..json_codec import prepare
from ..protocol.constants import LINE_BYTES, PROTOCOL, ROOT_SOCKET, default_socket
from ..protocol.jsonl import LineBuffer, LineTooLong
from ..protocol.results import Hello
from . import methods
from .jsonrpc import Malformed, Notification, Response, read_line, request_line
from .methods import Call

T = TypeVar("T")
RETRY_S = 0.05
"""How long after a refused connection the next one is tried."""
_GONE = (errno.ENOENT, errno.ECONNREFUSED)
_FULL = (errno.EAGAIN,)  # the kernel's answer where too many wait to be accepted


@dataclass(frozen=True, slots=True)
class Connect:
    """Close the connection, if there is one, and make a new one."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send all of this."""

    data: bytes
    within_s: float


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for bytes and give them back; none at all means that the other side has closed."""

    within_s: float | None


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


Step = Connect | Send | Receive | Pause
Steps = Generator[Step, bytes | None, T]
"""The taker of a step sends back what was received, or throws in the OSError that it met."""


class _Lost(Exception):
    """The connection ended before the answer came."""

    def __init__(self, *, asked: bool) -> None:
        """Keep whether the request had been sent as a whole."""
        self.asked = asked


class Session:
    """One connection after the other to one daemon."""

    def __init__(
        self, path: Path, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing is said before it is asked for."""
        prepare(Hello)  # loads pydantic now, not within the time of the first answer
        self.path = path
        self.timeout_s = timeout_s
        self.hello: Hello | None = None
        """Whom the last connection was to; None before the first."""
        self._clock = clock
        self._lines = LineBuffer()
        self._number = 0
        self._revision = 0
        # Whether the connection is there and nothing is owed on it. Not so while an answer is
        # awaited, so that one that nobody waited for to the end is never taken for another's.
        self._usable = False

    def request(self, call: Call[T]) -> Steps[T]:
        """Ask, and give the result, within the session's time; start anew where that is safe.

        Raises:
            McrError: the daemon's refusal, or why there is no answer.
        """
        deadline = self._clock() + self.timeout_s
        for again in (True, False):
            yield from self._connected(deadline)
            try:
                return (yield from self._exchange(call, deadline))
            except _Lost as lost:
                # A request that did not arrive as a whole was never carried out.
                if not again or (lost.asked and call.doubt):
                    raise self._no_answer("ended the connection without an answer", call) from None
        raise AssertionError("the second try returns or raises")

    def connect(self) -> Steps[Hello]:
        """See to it that there is a connection, and say to whom.

        Raises:
            McrError: there is none.
        """
        yield from self._connected(self._clock() + self.timeout_s)
        assert self.hello is not None  # else it would have raised
        return self.hello

    def deadline(self, timeout_s: float | None) -> float | None:
        """When this time will have passed; None is never."""
        return None if timeout_s is None else self._clock() + timeout_s

    def listen(self, deadline: float | None) -> Steps[Notification | None]:
        """Wait for a notification; None if it is too late, or the connection has ended.

        Raises:
            DaemonError: something else came.
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
            raise message.error or self._unfit("answered", "what nobody has asked for")
        return message

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection on which all is well."""
        return self._usable

    def _connected(self, deadline: float) -> Steps[None]:
        """See to it that there is a connection that has been greeted."""
        returning = self.hello is not None
        while not self._usable:
            try:
                yield Connect()
                self._lines = LineBuffer()
                self.hello = yield from self._exchange(methods.hello(), deadline)
                self._check(self.hello)
                return
            except _Lost:
                error: McrError = self._no_answer("ended the connection at once")
                wait = returning
            except McrError:  # before OSError, as some are both
                self._usable = False
                raise
            except TimeoutError:
                raise self._timed_out() from None
            except OSError as met:
                error = self._unreachable(met)
                wait = met.errno in _FULL or (returning and met.errno in _GONE)
            # A daemon that was there may be on its way back.
            if not wait or self._clock() + RETRY_S >= deadline:
                raise error
            yield Pause(RETRY_S)

    def _check(self, hello: Hello) -> None:
        if hello.protocol != PROTOCOL:
            raise DaemonError(
                f"the daemon at {self.path} speaks protocol {hello.protocol}, this client"
                f" {PROTOCOL}: use the mcr that belongs to it"
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
            # What it said before it closed, such as a refusal, is worth more than that it did.
            yield from self._last_words(deadline)
            raise _Lost(asked=False) from None
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
            raise self._unfit("answered", "what nobody has asked for")

    def _last_words(self, deadline: float) -> Steps[None]:
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
                    raise _Lost(asked=True)
                self._lines.feed(data)
            return read_line(line, result)
        except LineTooLong:
            self._usable = False
            raise self._unfit("answered", f"with a line of more than {LINE_BYTES} bytes") from None
        except Malformed as error:
            self._usable = False
            raise self._unfit("answered", str(error)) from None

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

    def _unfit(self, verb: str, what: str) -> DaemonError:
        return DaemonError(f"the daemon at {self.path} {verb} {what}; is it one of mcr?")

    def _unreachable(self, error: OSError) -> McrError:
        if error.errno == errno.ENOENT:
            roots = self.path == default_socket() != ROOT_SOCKET and os.path.exists(ROOT_SOCKET)
            other = f", or ask that of root with --socket {ROOT_SOCKET}" if roots else ""
            return DaemonError(f"no daemon listens at {self.path}; start one with mcr serve{other}")
        if error.errno == errno.ECONNREFUSED and self.path.is_socket():
            return DaemonError(
                f"the daemon of {self.path} is gone and left its socket behind; start one anew"
                " with mcr serve"
            )
        if error.errno == errno.ECONNREFUSED:
            return DaemonError(f"{self.path} is no socket; name the one that mcr serve made")
        if error.errno in _FULL:
            return DaemonError(f"the daemon at {self.path} takes no connection: too many wait")
        if error.errno in (errno.EACCES, errno.EPERM):
            return RightsError(
                f"this user may not talk to the daemon at {self.path}: use sudo, or become a member"
                " of the socket's group"
            )
        return DaemonError(f"cannot connect to {self.path}: {error.strerror or error}")
