"""`Client`: a client of the daemon whose methods block until the answer arrives.

Owns the socket and the lock. `session` holds the conversation, `methods` has the requests. Does not
load asyncio.
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

from ..alarms.event import Event
from ..alarms.event_iterator import EventIterator
from ..errors import McrError
from ..protocol.constants import default_socket
from . import methods
from .connect import open_connection
from .event_cursor import EventCursor
from .methods import Call
from .session import Connect, Pause, Receive, Session, Step, Steps
from .signature import copy_signature

P = ParamSpec("P")
T = TypeVar("T")
TIMEOUT_S = 10.0
RECEIVE_BYTES = 1 << 16


class Wire:
    """Executes the steps of a session on a socket."""

    def __init__(self, path: Path) -> None:
        """Open no connection yet."""
        self._path = path
        self._socket: socket.socket | None = None
        self._ended = False

    def run(self, steps: Steps[T]) -> T:
        """Execute all steps and return their result."""
        received: bytes | None = None
        failure: OSError | None = None
        try:
            while True:
                step = steps.send(received) if failure is None else steps.throw(failure)
                received, failure = None, None
                try:
                    received = self._execute(step)
                except OSError as error:
                    failure = error
        except StopIteration as end:
            value: T = end.value
            return value
        except McrError:
            raise
        except BaseException:
            # Raised by a signal handler: received bytes may be lost, so the connection cannot be
            # used any more.
            self._close()
            raise
        finally:
            steps.close()

    def end(self) -> None:
        """Close the connection for good; wakes a thread that waits on it."""
        self._ended = True
        if (connection := self._socket) is not None:
            with suppress(OSError):  # the daemon has closed it already
                connection.shutdown(socket.SHUT_RDWR)
            self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _execute(self, step: Step) -> bytes | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        if isinstance(step, Connect):
            self._close()
            if self._ended:
                raise McrError("the connection was closed")
            self._socket = open_connection(self._path)
            return None
        if (connection := self._socket) is None:  # another thread has closed it
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        connection.settimeout(step.timeout_s)
        if isinstance(step, Receive):
            return connection.recv(RECEIVE_BYTES)
        connection.sendall(step.data)
        return None


class Client:
    """A client of the daemon; its methods block until the answer arrives.

    It connects with the first request. After a restart of the daemon's control process it
    reconnects and repeats requests that change nothing. A change whose answer was lost raises
    `DaemonError`, since the client cannot know whether it was made. All methods are thread-safe;
    threads take turns. After fork(2), a child process must create its own client.

    Example:
        with mcr.Client() as client:
            client.add_rule("239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001")
            for rule in client.rules():
                print(rule.id, rule.state)
    """

    def __init__(
        self, path: str | PathLike[str] | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Create the client; it connects with the first request.

        Args:
            path: the daemon's socket. None means that of this user's daemon: for root
                /run/mcr/mcr.sock, else mcr/mcr.sock in XDG_RUNTIME_DIR, else
                /tmp/mcr-UID/mcr.sock; there only root's or this user's daemon is accepted.
            timeout_s: the time limit for each request, in seconds, above 0.

        Raises:
            ValueError: `timeout_s` is out of range.
        """
        self.path = socket_path(path)
        """The daemon's socket."""
        self._timeout_s = check_timeout(timeout_s)
        self._session = Session(self.path, self._timeout_s)
        self._wire = Wire(self.path)
        self._lock = threading.Lock()
        self._closed = False

    def request(self, call: Call[T]) -> T:
        """Send a request and return its result; all other methods use this one."""
        with self._lock:
            if self._closed:
                raise McrError("the client is closed")
            return self._wire.run(self._session.request(call))

    @staticmethod
    def _method(
        make: Callable[P, Call[T]],
    ) -> Callable[Concatenate["Client", P], T]:
        """The method that sends the request which `make` creates from its arguments."""

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
    apply_rules = _method(methods.apply_rules)
    configuration = _method(methods.configuration)
    reload = _method(methods.reload)
    stats = _method(methods.stats)
    flows = _method(methods.flows)
    explain = _method(methods.explain)
    workers = _method(methods.workers)
    interfaces = _method(methods.interfaces)
    log_levels = _method(methods.log_levels)
    set_log_level = _method(methods.set_log_level)
    resolve_hosts = _method(methods.resolve_hosts)
    shutdown = _method(methods.shutdown)

    def events(
        self, kinds: Iterable[str] | None = None, *, after: int | None = None
    ) -> "EventStream":
        """Subscribe to events on a separate connection; close the stream, or use `with`.

        Args:
            kinds: any of rule, worker, interface, log, alarm, loss; None means all.
            after: first replay the events after this number that the daemon still has; None
                replays none.

        Raises:
            DaemonError: no daemon answers, or it does not know one of the kinds.
        """
        return EventStream(self.path, self._timeout_s, kinds, after)

    def close(self) -> None:
        """Close the connection. Idempotent; streams of events stay open."""
        with self._lock:
            self._closed = True
            self._wire.end()

    def __enter__(self) -> Self:
        """Return the client; it connects with the first request."""
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
        """Name the daemon's socket."""
        return f"<mcr.Client of {self.path}>"


class EventStream(EventIterator):
    """The events of a daemon, as an endless iterator of `Event`.

    After a restart of the daemon's control process the stream continues where it was; an event
    ``gap`` reports missed events. For one thread at a time.
    """

    def __init__(
        self, path: Path, timeout_s: float, kinds: Iterable[str] | None, after: int | None
    ) -> None:
        """Subscribe; created by `Client.events`."""
        self._wire = Wire(path)
        self._cursor = EventCursor(Session(path, timeout_s), kinds, after)
        self._closed = False
        try:
            self._wire.run(self._cursor.begin())
        except BaseException:
            self._wire.end()
            raise

    def read(self, timeout_s: float | None = None) -> Event | None:
        """Wait for the next event; None if none arrives within `timeout_s` seconds.

        Reconnecting may take up to the client's time limit in addition.

        Raises:
            DaemonError: the connection was lost, and the daemon did not return within the
                client's time limit.
            McrError: the stream is closed.
        """
        if self._closed:
            raise McrError("the stream of events is closed")
        return self._wire.run(self._cursor.next(timeout_s))

    def close(self) -> None:
        """End the subscription, even while another thread waits for an event. Idempotent."""
        self._closed = True
        self._wire.end()

    @property
    def _is_over(self) -> bool:
        return self._closed


def socket_path(path: str | PathLike[str] | None) -> Path:
    """The given path, or the default."""
    return default_socket() if path is None else Path(path)


def check_timeout(timeout_s: float) -> float:
    """Return the time limit; raise ValueError if it is out of range."""
    if not 0 < timeout_s <= threading.TIMEOUT_MAX:
        raise ValueError(f"timeout_s: must be above 0 and finite, not {timeout_s!r}")
    return timeout_s
