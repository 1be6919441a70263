"""`AsyncClient`: a client of the daemon for programs that run on asyncio.

Owns the socket in the event loop. `session` holds the conversation, `methods` has the requests.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from ..alarms.event import Event
from ..async_closing import AsyncClosing
from ..errors import McrError
from ..taps.filter import RING_BYTES, TRACE_FRAME_BYTES, Taken, TapFilter
from ..taps.stream import TapStream
from ..time_limit import time_limit
from . import methods, shaping_methods
from .connect import open_connection
from .event_cursor import EventCursor
from .methods import Call
from .session import Connect, Pause, Receive, Session, Step, Steps
from .signature import copy_signature
from .sync import TIMEOUT_S, check_timeout, socket_path
from .tap import daemon_tap
from .wire import RECEIVE_BYTES

P = ParamSpec("P")
T = TypeVar("T")


class AsyncWire:
    """Executes the steps of a session on a socket.

    It uses the socket itself: when sending fails, a stream of asyncio discards received bytes, such
    as the daemon's reason for closing the connection.
    """

    def __init__(self, path: Path) -> None:
        """Open no connection yet."""
        self._path = path
        self._socket: socket.socket | None = None
        self._is_running = False
        self._ended = False

    async def run(self, steps: Steps[T]) -> T:
        """Execute all steps and return their result."""
        received: bytes | None = None
        failure: OSError | None = None
        self._is_running = True
        try:
            while True:
                step = steps.send(received) if failure is None else steps.throw(failure)
                received, failure = None, None
                try:
                    received = await self._execute(step)
                except OSError as error:
                    failure = error
        except StopIteration as end:
            value: T = end.value
            return value
        except McrError:
            raise
        except BaseException:
            # Cancelled: received bytes may be lost, so the connection cannot be used any more.
            self._close()
            raise
        finally:
            steps.close()
            self._is_running = False
            if self._ended:
                self._close()

    def end(self) -> None:
        """Close the connection for good; wakes a task that waits on it."""
        self._ended = True
        if self._socket is not None:
            with suppress(OSError):  # the daemon has closed it already
                self._socket.shutdown(socket.SHUT_RDWR)
        if not self._is_running:  # else the task would wait on a descriptor that may be reused
            self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _execute(self, step: Step) -> bytes | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        if isinstance(step, Connect):
            self._close()
            if self._ended:
                raise McrError("the connection was closed")
            # Not by asyncio, which treats a full backlog (EAGAIN) as a connection.
            self._socket = open_connection(self._path)
            return None
        if self._socket is None:  # closed by the cancellation of an earlier step
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(step.timeout_s):
            if isinstance(step, Receive):
                return await loop.sock_recv(self._socket, RECEIVE_BYTES)
            await loop.sock_sendall(self._socket, step.data)
        return None


class AsyncClient(AsyncClosing):
    """A client of the daemon for programs that run on asyncio; its methods are those of `Client`.

    The tasks of one event loop can share it; they take turns.

    Example::

        async with mcr.AsyncClient() as client:
            await client.add_rule("239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001")
            async for event in client.events(["worker"]):
                print(event.text)
    """

    def __init__(
        self, path: str | PathLike[str] | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Create the client; it connects with the first request.

        Args:
            path: the daemon's socket, as for `Client`.
            timeout_s: the time limit for each request, in seconds, above 0.

        Raises:
            ArgumentError: `path` cannot be that of a socket, or `timeout_s` is out of range.
        """
        self.path = socket_path(path)
        """The daemon's socket."""
        self._timeout_s = check_timeout(timeout_s)
        self._session = Session(self.path, self._timeout_s)
        self._wire = AsyncWire(self.path)
        self._lock = asyncio.Lock()
        self._closed = False

    async def request(self, call: Call[T]) -> T:
        """Send a request and return its result; all other methods use this one."""
        async with self._lock:
            if self._closed:
                raise McrError("the client is closed")
            return await self._wire.run(self._session.request(call))

    @staticmethod
    def _method(
        make: Callable[P, Call[T]],
    ) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
        """The method that sends the request which `make` creates from its arguments."""

        async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
            return await self.request(make(*args, **kwargs))

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
    ) -> "AsyncEventStream":
        """Return a stream of events; `async with` or the first `read` connects and subscribes.

        Args:
            kinds: any of rule, worker, interface, log, alarm, loss; None means all.
            after: first replay the events after this number that the daemon still has; None
                replays none.
        """
        return AsyncEventStream(self.path, self._timeout_s, kinds, after)

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
        """Capture frames as they are received, sent and dropped; use `async with`.

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
        return TapStream(daemon_tap(self.path, self._timeout_s, wanted))

    def trace(self, rule: str, *, sample: int = 1) -> TapStream:
        """Follow datagrams of a rule: each step with its time, and drops with their reason.

        Use `async with`.

        Args:
            rule: the id or name of the rule.
            sample: follow every n-th datagram.

        Raises:
            RuleError: there is no such rule.
            McrError: too many captures run, or the daemon does not answer.
        """
        wanted = TapFilter(rule=rule, sample=sample, frame_bytes=TRACE_FRAME_BYTES)
        return TapStream(daemon_tap(self.path, self._timeout_s, wanted))

    async def _open(self) -> None:
        """Do nothing: it connects with the first request."""

    async def close(self) -> None:
        """Close the connection. Idempotent; streams of events stay open."""
        async with self._lock:
            self._closed = True
            self._wire.end()

    def __repr__(self) -> str:
        """Name the daemon's socket."""
        return f"<mcr.AsyncClient of {self.path}>"


class AsyncEventStream(AsyncClosing):
    """The events of a daemon, like `EventStream`, for ``async for``; for one task at a time."""

    def __init__(
        self, path: Path, timeout_s: float, kinds: Iterable[str] | None, after: int | None
    ) -> None:
        """Created by `AsyncClient.events`."""
        self._wire = AsyncWire(path)
        self._cursor = EventCursor(Session(path, timeout_s), kinds, after)
        self._closed = False

    async def read(self, timeout_s: float | None = None) -> Event | None:
        """Wait for the next event; None if none arrives within `timeout_s` seconds.

        Raises:
            DaemonError: the connection was lost, and the daemon did not return within the
                client's time limit.
            McrError: the stream is closed.
        """
        if self._closed:
            raise McrError("the stream of events is closed")
        return await self._wire.run(self._cursor.next(time_limit(timeout_s)))

    def __del__(self) -> None:
        """End the subscription of a loop that was left."""
        self._wire.end()

    async def close(self) -> None:
        """End the subscription, even while another task waits for an event. Idempotent."""
        self._closed = True
        self._wire.end()

    def __aiter__(self) -> Self:
        """The stream itself."""
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event without a time limit; ends when the stream is closed."""
        try:
            event = await self.read()
        except McrError:
            if self._closed:
                raise StopAsyncIteration from None
            raise
        assert event is not None  # without a time limit there always is one
        return event

    async def _open(self) -> None:
        await self._wire.run(self._cursor.begin())
