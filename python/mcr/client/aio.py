"""`AsyncClient`: the daemon from a program that runs on asyncio.

Owns the socket in the event loop; what is said is the business of `session`, the methods that of
`calls`.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from ..errors import McrError
from ..protocol.results import Event
from . import methods
from .connect import connected_socket
from .event_cursor import EventCursor
from .methods import Call
from .session import Connect, Pause, Receive, Session, Step, Steps
from .signature import copy_signature
from .sync import RECEIVE_BYTES, TIMEOUT_S, checked_timeout, chosen_path

P = ParamSpec("P")
T = TypeVar("T")


class AsyncWire:
    """Takes the steps of a session, one after the other.

    On the socket itself: a stream of asyncio forgets what was received when sending fails, and what
    a daemon said before it closed is the reason why.
    """

    def __init__(self, path: Path) -> None:
        """Connect later."""
        self._path = path
        self._socket: socket.socket | None = None
        self._is_running = False
        self._ended = False

    async def run(self, steps: Steps[T]) -> T:
        """Take all steps and return what they lead to."""
        received: bytes | None = None
        problem: OSError | None = None
        self._is_running = True
        try:
            while True:
                step = steps.send(received) if problem is None else steps.throw(problem)
                received, problem = None, None
                try:
                    received = await self._take(step)
                except OSError as error:
                    problem = error
        except StopIteration as end:
            value: T = end.value
            return value
        except McrError:
            raise
        except BaseException:
            # Cancelled: what had just been received is lost, and so is the connection.
            self._close()
            raise
        finally:
            steps.close()
            self._is_running = False
            if self._ended:
                self._close()

    def end(self) -> None:
        """Close the connection and make no other; wakes a task that waits for it."""
        self._ended = True
        if self._socket is not None:
            with suppress(OSError):  # the other side was quicker
                self._socket.shutdown(socket.SHUT_RDWR)
        if not self._is_running:  # else whoever waits would wait on a number that is another's
            self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _take(self, step: Step) -> bytes | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        if isinstance(step, Connect):
            self._close()
            if self._ended:
                raise McrError("it was closed")
            # Not by asyncio, which takes a full queue of connections for a connection.
            self._socket = connected_socket(self._path)
            return None
        if self._socket is None:  # a cancelled step has closed it
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(step.within_s):
            if isinstance(step, Receive):
                return await loop.sock_recv(self._socket, RECEIVE_BYTES)
            await loop.sock_sendall(self._socket, step.data)
        return None


class AsyncClient:
    """A daemon of mcr, for programs on asyncio; the same as `Client`, to be awaited.

    For the tasks of one event loop; they take turns.

    Example:
        async with mcr.AsyncClient() as client:
            await client.add_rule("239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001")
            async for event in client.events(["worker"]):
                print(event.text)
    """

    def __init__(
        self, path: str | PathLike[str] | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Take the address; nothing is connected yet.

        Args:
            path: the daemon's socket, as for `Client`.
            timeout_s: how long an answer may take in all, more than 0.

        Raises:
            ValueError: a time that cannot be.
        """
        self.path = chosen_path(path)
        """The daemon's socket."""
        self._timeout_s = checked_timeout(timeout_s)
        self._session = Session(self.path, self._timeout_s)
        self._wire = AsyncWire(self.path)
        self._lock = asyncio.Lock()
        self._closed = False

    async def request(self, call: Call[T]) -> T:
        """Ask one thing and wait for the answer; the other methods are made of it."""
        async with self._lock:
            if self._closed:
                raise McrError("the client is closed")
            return await self._wire.run(self._session.request(call))

    @staticmethod
    def _method(
        make: Callable[P, Call[T]],
    ) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
        """The method that sends what `make` makes of its arguments."""

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
    stats = _method(methods.stats)
    workers = _method(methods.workers)
    interfaces = _method(methods.interfaces)
    log_levels = _method(methods.log_levels)
    set_log_level = _method(methods.set_log_level)
    resolve_hosts = _method(methods.resolve_hosts)
    shutdown = _method(methods.shutdown)

    def events(
        self, kinds: Iterable[str] | None = None, *, after: int | None = None
    ) -> "AsyncEventStream":
        """What happens, on a connection of its own; `async with` or the first event subscribes.

        Args:
            kinds: rule, worker, interface, log; None hears all of them.
            after: begin behind this event, as far as the daemon still has what came then; None
                begins with what happens from the subscription on.
        """
        return AsyncEventStream(self.path, self._timeout_s, kinds, after)

    async def close(self) -> None:
        """End the connection; twice is once. Streams of events stay."""
        async with self._lock:
            self._closed = True
            self._wire.end()

    async def __aenter__(self) -> Self:
        """Return the client; it connects when it is asked for something."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        await self.close()

    def __repr__(self) -> str:
        """Whose client it is."""
        return f"<mcr.AsyncClient of {self.path}>"


class AsyncEventStream:
    """What happens in a daemon, as `EventStream`, for ``async for``; for one task at a time."""

    def __init__(
        self, path: Path, timeout_s: float, kinds: Iterable[str] | None, after: int | None
    ) -> None:
        """Made by `AsyncClient.events`."""
        self._wire = AsyncWire(path)
        self._following = EventCursor(Session(path, timeout_s), kinds, after)
        self._closed = False

    async def read(self, timeout_s: float | None = None) -> Event | None:
        """Wait for the next event; None if none came in so many seconds.

        Raises:
            DaemonError: the daemon is gone and did not come back within the client's time.
            McrError: the stream is closed.
        """
        if self._closed:
            raise McrError("the stream of events is closed")
        return await self._wire.run(self._following.next(timeout_s))

    async def close(self) -> None:
        """End the subscription, also while another task waits for an event; twice is once."""
        self._closed = True
        self._wire.end()

    def __aiter__(self) -> Self:
        """The stream itself."""
        return self

    async def __anext__(self) -> Event:
        """The next event, however long it takes; a closed stream has no more."""
        try:
            event = await self.read()
        except McrError:
            if self._closed:
                raise StopAsyncIteration from None
            raise
        assert event is not None  # without a limit it waits
        return event

    async def __aenter__(self) -> Self:
        """Subscribe."""
        try:
            await self._wire.run(self._following.begin())
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        await self.close()
