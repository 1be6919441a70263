"""`Client`: the daemon from a program that waits for its answers.

Owns the socket and the lock; what is said is the business of `session`, the methods that of
`calls`. Loads no asyncio.
"""

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from ..errors import McrError
from ..protocol.constants import default_socket
from ..protocol.results import Event
from . import methods
from .connect import connected_socket
from .event_cursor import EventCursor
from .methods import Call
from .session import Connect, Pause, Receive, Session, Step, Steps
from .signature import copy_signature

P = ParamSpec("P")
T = TypeVar("T")
TIMEOUT_S = 10.0
RECEIVE_BYTES = 1 << 16


class Wire:
    """Takes the steps of a session, one after the other."""

    def __init__(self, path: Path) -> None:
        """Connect later."""
        self._path = path
        self._socket: socket.socket | None = None
        self._ended = False

    def run(self, steps: Steps[T]) -> T:
        """Take all steps and return what they lead to."""
        received: bytes | None = None
        problem: OSError | None = None
        try:
            while True:
                step = steps.send(received) if problem is None else steps.throw(problem)
                received, problem = None, None
                try:
                    received = self._take(step)
                except OSError as error:
                    problem = error
        except StopIteration as end:
            value: T = end.value
            return value
        except McrError:
            raise
        except BaseException:
            # Of a signal handler: what had just been received is lost, and so is the connection.
            self._close()
            raise
        finally:
            steps.close()

    def end(self) -> None:
        """Close the connection and make no other; wakes a thread that waits for it."""
        self._ended = True
        if (connection := self._socket) is not None:
            with suppress(OSError):  # the other side was quicker
                connection.shutdown(socket.SHUT_RDWR)
            self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _take(self, step: Step) -> bytes | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        if isinstance(step, Connect):
            self._close()
            if self._ended:
                raise McrError("it was closed")
            self._socket = connected_socket(self._path)
            return None
        if (connection := self._socket) is None:  # another thread has ended it
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        connection.settimeout(step.within_s)
        if isinstance(step, Receive):
            return connection.recv(RECEIVE_BYTES)
        connection.sendall(step.data)
        return None


class Client:
    """A daemon of mcr, for programs that wait for each answer.

    Nothing is connected before it is needed. After a restart of the daemon's control process the
    client connects anew by itself and repeats what only reads; a change whose answer was lost
    raises `DaemonError`, as nobody but the daemon knows whether it was made. Every method may be
    called from any thread; they take turns. A forked child makes a client of its own.

    Example:
        with mcr.Client() as client:
            client.add_rule("239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001")
            for rule in client.rules():
                print(rule.id, rule.state)
    """

    def __init__(
        self, path: str | PathLike[str] | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Take the address; nothing is connected yet.

        Args:
            path: the daemon's socket. None means that of this user's daemon: for root
                /run/mcr/mcr.sock, else mcr/mcr.sock in XDG_RUNTIME_DIR, else
                /tmp/mcr-UID/mcr.sock; there root (or this user) has to be the one who listens.
            timeout_s: how long an answer may take in all, more than 0.

        Raises:
            ValueError: a time that cannot be.
        """
        self.path = chosen_path(path)
        """The daemon's socket."""
        self._timeout_s = checked_timeout(timeout_s)
        self._session = Session(self.path, self._timeout_s)
        self._wire = Wire(self.path)
        self._lock = threading.Lock()
        self._closed = False

    def request(self, call: Call[T]) -> T:
        """Ask one thing and wait for the answer; the other methods are made of it."""
        with self._lock:
            if self._closed:
                raise McrError("the client is closed")
            return self._wire.run(self._session.request(call))

    @staticmethod
    def _method(
        make: Callable[P, Call[T]],
    ) -> Callable[Concatenate["Client", P], T]:
        """The method that sends what `make` makes of its arguments."""

        def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
            return self.request(make(*args, **kwargs))

        return copy_signature(method, make)

    hello = _method(methods.hello)
    ping = _method(methods.ping)
    rules = _method(methods.rules)
    rule = _method(methods.rule)
    add_rules = _method(methods.add_rules)
    add_rule = _method(methods.add_rule)
    remove_rules = _method(methods.remove_rules)
    remove_rule = _method(methods.remove_rule)
    enable_rules = _method(methods.enable_rules)
    enable_rule = _method(methods.enable_rule)
    disable_rules = _method(methods.disable_rules)
    disable_rule = _method(methods.disable_rule)
    replace_rules = _method(methods.replace_rules)
    stats = _method(methods.stats)
    workers = _method(methods.workers)
    interfaces = _method(methods.interfaces)
    log_levels = _method(methods.log_levels)
    set_log_level = _method(methods.set_log_level)
    resolve_hosts = _method(methods.resolve_hosts)
    shutdown = _method(methods.shutdown)

    def events(
        self, kinds: Iterable[str] | None = None, *, after: int | None = None
    ) -> "EventStream":
        """Subscribe to what happens, on a connection of its own; close it, or use `with`.

        Args:
            kinds: rule, worker, interface, log; None hears all of them.
            after: begin behind this event, as far as the daemon still has what came then; None
                begins with what happens from now on.

        Raises:
            DaemonError: no daemon, or a kind that it does not know.
        """
        return EventStream(self.path, self._timeout_s, kinds, after)

    def close(self) -> None:
        """End the connection; twice is once. Streams of events stay."""
        with self._lock:
            self._closed = True
            self._wire.end()

    def __enter__(self) -> Self:
        """Return the client; it connects when it is asked for something."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Whose client it is."""
        return f"<mcr.Client of {self.path}>"


class EventStream:
    """What happens in a daemon, one `Event` after the other, without an end.

    It goes on by itself where it was after a restart of the daemon's control process; what was
    missed is told by an event ``gap``. For one thread at a time.
    """

    def __init__(
        self, path: Path, timeout_s: float, kinds: Iterable[str] | None, after: int | None
    ) -> None:
        """Subscribes; made by `Client.events`."""
        self._wire = Wire(path)
        self._following = EventCursor(Session(path, timeout_s), kinds, after)
        self._closed = False
        try:
            self._wire.run(self._following.begin())
        except BaseException:
            self._wire.end()
            raise

    def read(self, timeout_s: float | None = None) -> Event | None:
        """Wait for the next event; None if none came in so many seconds.

        Where it has to connect anew it may take up to the client's time more.

        Raises:
            DaemonError: the daemon is gone and did not come back within the client's time.
            McrError: the stream is closed.
        """
        if self._closed:
            raise McrError("the stream of events is closed")
        return self._wire.run(self._following.next(timeout_s))

    def close(self) -> None:
        """End the subscription, also while another thread waits for an event; twice is once."""
        self._closed = True
        self._wire.end()

    def __iter__(self) -> Self:
        """The stream itself."""
        return self

    def __next__(self) -> Event:
        """The next event, however long it takes; a closed stream has no more."""
        try:
            event = self.read()
        except McrError:
            if self._closed:
                raise StopIteration from None
            raise
        assert event is not None  # without a limit it waits
        return event

    def __enter__(self) -> Self:
        """Return the stream."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


def chosen_path(path: str | PathLike[str] | None) -> Path:
    """The path that was given, else the default."""
    return default_socket() if path is None else Path(path)


def checked_timeout(timeout_s: float) -> float:
    """The time, if it can be one; ValueError otherwise."""
    if not 0 < timeout_s <= threading.TIMEOUT_MAX:
        raise ValueError(f"timeout_s: {timeout_s!r} is not more than 0 and finite")
    return timeout_s
