"""`AsyncRelay`: a relay in this process for programs that run on asyncio.

Each call of `Relay` that may wait, for a lock, the kernel or a name server, runs in a thread of the
event loop's executor.
"""

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar

from ..alarms.event import Event
from ..async_closing import AsyncClosing
from ..choices import Egress, Hosts, IngressChoice, Offload
from ..errors import McrError
from ..rules import Rule
from ..rules.expectation import Expectation
from ..rules.shaping import InterfaceRate, Shaping, TrafficClass
from ..taps.filter import RING_BYTES, TRACE_FRAME_BYTES, Taken, TapFilter
from ..taps.stream import TapStream
from ..time_limit import time_limit
from .event_stream import RelayEventStream
from .relay import Relay
from .settings import BUFFER_BYTES

P = ParamSpec("P")
T = TypeVar("T")
_WAIT_S = 0.2  # how long a thread of the executor stays occupied after `wait` was cancelled


class AsyncRelay(AsyncClosing):
    """A relay inside this process for programs that run on asyncio; its methods are `Relay`'s.

    Those that may wait are coroutines, and do not block the event loop. They run in threads of its
    executor, which have the rights and the network namespace that the loop's thread had when they
    began. A change whose task is cancelled is made completely or not at all; a later call shows
    which.

    Example::

        async with mcr.AsyncRelay("239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001") as relay:
            async for event in relay.events(["alarm", "loss"]):
                print(event.text)
    """

    def __init__(
        self,
        *rules: Rule | str,
        ingress: IngressChoice = "auto",
        egress: Egress = "auto",
        offload: Offload = "off",
        workers: int = 1,
        buffer_bytes: int = BUFFER_BYTES,
        cpus: Iterable[int] | str | None = None,
        verify_checksums: bool = True,
        flows: bool = False,
        latency: bool = False,
        hosts: Hosts = "first",
        expect: Expectation | str | None = None,
        classes: Iterable[TrafficClass] = (),
        interface_rates: Iterable[InterfaceRate] = (),
    ) -> None:
        """Parse the rules; open nothing yet. Arguments and errors are those of `Relay`."""
        self._relay = Relay(
            *rules,
            ingress=ingress,
            egress=egress,
            offload=offload,
            workers=workers,
            buffer_bytes=buffer_bytes,
            cpus=cpus,
            verify_checksums=verify_checksums,
            flows=flows,
            latency=latency,
            hosts=hosts,
            expect=expect,
            classes=classes,
            interface_rates=interface_rates,
        )

    @staticmethod
    def _method(
        method: Callable[Concatenate[Relay, P], T],
    ) -> Callable[Concatenate["AsyncRelay", P], Coroutine[Any, Any, T]]:
        """The same method as a coroutine, which runs it in a thread."""

        async def call(self: "AsyncRelay", /, *args: P.args, **kwargs: P.kwargs) -> T:
            return await asyncio.to_thread(method, self._relay, *args, **kwargs)

        return functools.update_wrapper(call, method)

    open = _method(Relay.open)
    start = _method(Relay.start)
    stop = _method(Relay.stop)
    add_rule = _method(Relay.add_rule)
    remove_rule = _method(Relay.remove_rule)
    disable_rule = _method(Relay.disable_rule)
    enable_rule = _method(Relay.enable_rule)
    edit_rule = _method(Relay.edit_rule)
    replace_rules = _method(Relay.replace_rules)
    set_class = _method(Relay.set_class)
    remove_class = _method(Relay.remove_class)
    set_interface_rate = _method(Relay.set_interface_rate)
    remove_interface_rate = _method(Relay.remove_interface_rate)
    resolve_hosts = _method(Relay.resolve_hosts)
    stats = _method(Relay.stats)
    flows = _method(Relay.flows)
    explain = _method(Relay.explain)

    async def rules(self) -> tuple[Rule, ...]:
        """Return the rules, oldest first."""
        return await asyncio.to_thread(lambda: self._relay.rules)

    async def shaping(self) -> Shaping:
        """Return the classes of traffic and the rates of interfaces."""
        return await asyncio.to_thread(lambda: self._relay.shaping)

    async def warnings(self) -> tuple[str, ...]:
        """Return the problems that do not prevent relaying, one sentence each."""
        return await asyncio.to_thread(lambda: self._relay.warnings)

    async def ingress(self) -> IngressChoice:
        """Return the ingress; `packet` or `udp` once the relay is open."""
        return await asyncio.to_thread(lambda: self._relay.ingress)

    async def engine(self) -> Literal["io_uring", "poll"] | None:
        """Return how it receives and sends; None before `start`."""
        return await asyncio.to_thread(lambda: self._relay.engine)

    async def error(self) -> str | None:
        """Return why the engine failed; None if it has not."""
        return await asyncio.to_thread(lambda: self._relay.error)

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the relay is stopped.

        Arguments, result and errors are those of `Relay.wait`.
        """
        limit_s = time_limit(timeout_s)
        ends_s = None if limit_s is None else time.monotonic() + limit_s
        while True:
            left_s = _WAIT_S if ends_s is None else max(0.0, ends_s - time.monotonic())
            if await asyncio.to_thread(self._relay.wait, min(left_s, _WAIT_S)):
                return True
            if left_s < _WAIT_S:
                return False

    def events(self, kinds: Iterable[str] | None = None) -> "AsyncRelayEventStream":
        """Return a stream of events; `async with` or the first `read` opens it.

        Args:
            kinds: any of rule, alarm, loss; None means all.
        """
        return AsyncRelayEventStream(lambda: self._relay.events(kinds))

    def capture(
        self,
        rule: Rule | str | None = None,
        *,
        output: int | None = None,
        reason: str | None = None,
        take: Iterable[Taken] | None = None,
        sample: int = 1,
        ring_bytes: int = RING_BYTES,
    ) -> TapStream:
        """Capture frames as they are received, sent and dropped; use `async with`.

        It begins there, or with the first record that is awaited. Arguments are those of
        `Relay.capture`, and so are the errors, from then on.
        """
        wanted = TapFilter(
            rule=None if rule is None else str(rule),
            output=output,
            reason=reason,
            take=take,
            sample=sample,
            ring_bytes=ring_bytes,
        )
        return TapStream(lambda: self._relay._begin_tap(rule, wanted))

    def trace(self, rule: Rule | str, *, sample: int = 1) -> TapStream:
        """Follow datagrams of a rule: each step with its time, and drops with their reason.

        Use `async with`. Arguments and errors are those of `Relay.trace`.
        """
        wanted = TapFilter(rule=str(rule), sample=sample, frame_bytes=TRACE_FRAME_BYTES)
        return TapStream(lambda: self._relay._begin_tap(rule, wanted))

    async def close(self) -> None:
        """Stop, and release all resources, also if the task is cancelled meanwhile. Idempotent."""
        # A future of the executor: unlike a task it is not cancelled when the loop ends.
        closing = asyncio.get_running_loop().run_in_executor(None, self._relay.close)
        await asyncio.shield(closing)

    async def _open(self) -> None:
        await self.start()

    def __repr__(self) -> str:
        """Show the state and the number of rules."""
        return repr(self._relay).replace("mcr.Relay", "mcr.AsyncRelay")


class AsyncRelayEventStream(AsyncClosing):
    """The events of a relay, like `RelayEventStream`, for ``async for``; for one task at a time."""

    def __init__(self, begin: Callable[[], RelayEventStream]) -> None:
        """Created by `AsyncRelay.events`."""
        self._begin = begin
        self._stream: RelayEventStream | None = None
        self._closed = False

    @property
    def missed(self) -> int:
        """The number of events that were dropped so far."""
        return 0 if self._stream is None else self._stream.missed

    async def read(self, timeout_s: float | None = None) -> Event | None:
        """Wait for the next event; None if none arrives within `timeout_s` seconds.

        Raises:
            McrError: the relay is not open, or the stream has ended and all its events were read.
        """
        limit_s = time_limit(timeout_s)
        stream = await self._opened()
        try:
            async with asyncio.timeout(limit_s):
                return await anext(stream)
        except TimeoutError:
            return None
        except StopAsyncIteration:
            raise McrError("the stream of events has ended") from None

    async def close(self) -> None:
        """End the stream, even while another task waits for an event. Idempotent."""
        self._closed = True
        if self._stream is not None:
            self._stream.close()

    def __aiter__(self) -> Self:
        """The stream itself."""
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event without a time limit; ends when the relay stops."""
        return await anext(await self._opened())

    async def _open(self) -> None:
        await self._opened()

    async def _opened(self) -> RelayEventStream:
        if self._closed and self._stream is None:
            raise McrError("the stream of events is closed")
        if self._stream is None:
            self._stream = await asyncio.to_thread(self._begin)
        return self._stream
