"""`Client`: a client of the daemon whose methods block until the answer arrives.

Owns the lock. `wire` owns the socket, `session` holds the conversation, `methods` has the requests.
Does not load asyncio.
"""

import os
import threading
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from ..alarms.event import Event
from ..alarms.event_iterator import EventIterator
from ..errors import ArgumentError, McrError
from ..protocol.constants import SOCKET_VARIABLE, default_socket
from ..taps.filter import RING_BYTES, TRACE_FRAME_BYTES, Taken, TapFilter
from ..taps.stream import TapStream
from ..time_limit import time_limit
from . import methods, shaping_methods
from .event_cursor import EventCursor
from .methods import Call
from .session import Session
from .signature import copy_signature
from .tap import daemon_tap
from .wire import Wire

P = ParamSpec("P")
T = TypeVar("T")
TIMEOUT_S = 10.0
_PATH_BYTES = 107  # unix(7): sun_path, with a NUL behind it


class Client:
    """A client of the daemon; its methods block until the answer arrives.

    It connects with the first request. After a restart of the daemon's control process it
    reconnects and repeats requests that change nothing. A change whose answer was lost raises
    `DaemonError`, since the client cannot know whether it was made. All methods are thread-safe;
    threads take turns. After fork(2), a child process must create its own client.

    Example::

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
            ArgumentError: `path` cannot be that of a socket, or `timeout_s` is out of range.
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
    edit_rule = _method(methods.edit_rule)
    stats = _method(methods.stats)
    flows = _method(methods.flows)
    explain = _method(methods.explain)
    workers = _method(methods.workers)
    interfaces = _method(methods.interfaces)
    log_levels = _method(methods.log_levels)
    set_log_level = _method(methods.set_log_level)
    resolve_hosts = _method(methods.resolve_hosts)
    shaping = _method(shaping_methods.shaping)
    change_shaping = _method(shaping_methods.change_shaping)
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
            ArgumentError: the daemon does not know one of the kinds.
            DaemonError: no daemon answers.
        """
        return EventStream(self.path, self._timeout_s, kinds, after)

    def capture(
        self,
        rule: str | None = None,
        *,
        output: int | None = None,
        reason: str | None = None,
        take: Iterable[Taken] | None = None,
        sample: int = 1,
        ring_bytes: int = RING_BYTES,
    ) -> TapStream:
        """Capture frames as they are received, sent and dropped; close the stream, or use `with`.

        Args:
            rule: the id or name of the only rule; None captures all.
            output: the only output of the rule, from 1, of which copies alone are captured.
            reason: the only reason of drops, which alone are captured.
            take: any of received, sent and dropped; None means all.
            sample: capture every n-th datagram, with its copies.
            ring_bytes: the memory of each worker for what was not read yet, 1 to 64 MiB.

        Raises:
            RuleError: there is no such rule, output or reason.
            McrError: too many captures run, or the daemon does not answer.
        """
        wanted = TapFilter(
            rule=rule,
            output=output,
            reason=reason,
            take=take,
            sample=sample,
            ring_bytes=ring_bytes,
        )
        return TapStream(daemon_tap(self.path, self._timeout_s, wanted)).begin()

    def trace(self, rule: str, *, sample: int = 1) -> TapStream:
        """Follow datagrams of a rule: each step with its time, and drops with their reason.

        Args:
            rule: the id or name of the rule.
            sample: follow every n-th datagram.

        Raises:
            RuleError: there is no such rule.
            McrError: too many captures run, or the daemon does not answer.
        """
        wanted = TapFilter(rule=rule, sample=sample, frame_bytes=TRACE_FRAME_BYTES)
        return TapStream(daemon_tap(self.path, self._timeout_s, wanted)).begin()

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
        return self._wire.run(self._cursor.next(time_limit(timeout_s)))

    def __del__(self) -> None:
        """End the subscription of a loop that was left."""
        self._wire.end()

    def close(self) -> None:
        """End the subscription, even while another thread waits for an event. Idempotent."""
        self._closed = True
        self._wire.end()

    @property
    def _is_over(self) -> bool:
        return self._closed


def socket_path(path: str | PathLike[str] | None) -> Path:
    """The given path, or else that of MCR_SOCKET, or the default."""
    named = os.environ.get(SOCKET_VARIABLE) if path is None else path
    try:
        found = Path(named) if named else default_socket()
        size_bytes = len(os.fsencode(found))
    except (TypeError, UnicodeError):
        raise ArgumentError(f"socket: must be a path, not {named!r}") from None
    if size_bytes > _PATH_BYTES or "\0" in str(found):
        raise ArgumentError(f"socket: must be a path of at most {_PATH_BYTES} bytes, not {named!r}")
    return found


def check_timeout(timeout_s: float) -> float:
    """Return the time limit; raise ArgumentError if it is out of range."""
    if not (isinstance(timeout_s, int | float) and 0 < timeout_s <= threading.TIMEOUT_MAX):
        raise ArgumentError(f"timeout_s: must be above 0 and finite, not {timeout_s!r}")
    return timeout_s
