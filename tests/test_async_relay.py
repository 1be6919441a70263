"""`AsyncRelay`: real datagrams over loopback while an event loop keeps running."""

import asyncio
import gc
import inspect
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any, NamedTuple

import pytest
from tests.topology.checks import assert_balanced
from tests.topology.daemons import serving

import mcr

GROUP, SECOND_GROUP, PORT = "239.79.9.1", "239.79.9.2", 5019
COUNT = 50
WITHIN_S = 30


class Ends(NamedTuple):
    """A sender to the groups, and a receiver of copies that belongs to no relay."""

    sender: socket.socket
    receiver: socket.socket

    @property
    def rules(self) -> tuple[str, str]:
        """One rule for each group, to the receiver."""
        to = f"127.0.0.1:{self.receiver.getsockname()[1]}"
        return (
            f"{GROUP}%lo:{PORT},name=one to {to}",
            f"{SECOND_GROUP}%lo:{PORT},name=two,expect=1s to {to}",
        )

    async def pass_through(self, group: str) -> list[bytes]:
        """Send numbered datagrams to a group; return what the receiver gets."""
        loop, sent = asyncio.get_running_loop(), [b"%d" % number for number in range(COUNT)]
        for payload in sent:
            self.sender.sendto(payload, (group, PORT))
        return [await loop.sock_recv(self.receiver, 100) for _ in sent]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Both sockets."""
    with (
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender,
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as receiver,
    ):
        lo = socket.inet_aton("127.0.0.1")
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, lo)
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        yield Ends(sender, receiver)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test in an event loop."""
    asyncio.run(asyncio.wait_for(work, WITHIN_S))


@contextmanager
def no_warnings() -> Iterator[None]:
    """Fail if anything warns, also while it is collected, or leaves a descriptor open."""
    found: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, found.append
    opened = set(os.listdir("/proc/self/fd"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
            gc.collect()
    finally:
        sys.unraisablehook = hook
    assert [each.exc_value for each in found] == []
    assert set(os.listdir("/proc/self/fd")) <= opened


@asynccontextmanager
async def ticks() -> AsyncIterator[list[float]]:
    """The longest pause of the event loop during the block, in seconds, as a list of one."""
    longest = [0.0]

    async def tick() -> None:
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(0.01)
            longest[0] = max(longest[0], time.monotonic() - began_s)

    task = asyncio.create_task(tick())
    yield longest
    task.cancel()


def test_the_life_of_a_relay(ends: Ends) -> None:
    """Rules, statistics, flows, a capture and a trace: what the blocking class has, awaited."""

    async def live() -> None:
        one, two = ends.rules
        async with mcr.AsyncRelay(one, ingress="udp", flows=True) as relay:
            sent = [b"%d" % number for number in range(COUNT)]
            async with relay.capture("one") as frames, relay.trace("one") as steps:
                assert await ends.pass_through(GROUP) == sent
                captured = [await anext(frames) for _ in range(2 * COUNT)]
                assert {type(each) for each in captured} == {mcr.DatagramRecord}
                assert "received on lo" in (await anext(steps)).text
            added = await relay.add_rule(two)
            assert await ends.pass_through(SECOND_GROUP) == sent
            await relay.edit_rule("one", "name=first")
            await relay.disable_rule(added)
            await relay.enable_rule(added)
            assert [rule.name for rule in await relay.rules()] == ["first", "two"]
            assert {flow.datagrams for flow in await relay.flows()} == {COUNT}
            (explained,) = await relay.explain(f"{GROUP}%lo:{PORT}")
            assert explained.verdict == "relayed"
            assert (await relay.ingress(), await relay.error()) == ("udp", None)
            stats = await relay.stats()
            assert_balanced(stats)
            assert [rule.matched for rule in stats.rules] == [COUNT, COUNT]
            await relay.replace_rules([two])
            await relay.remove_rule("two")
            assert (await relay.rules(), await relay.warnings()) == ((), ())
        assert repr(relay) == "<mcr.AsyncRelay closed, 0 rules>"
        with pytest.raises(mcr.McrError, match="closed"):
            await relay.stats()

    with no_warnings():
        run(live())


def test_events_of_a_relay(ends: Ends) -> None:
    """A stream that falls silent is an event; the end of the relay ends the stream."""

    async def follow() -> None:
        async with mcr.AsyncRelay(ends.rules[1], ingress="udp", flows=True) as relay:
            async with relay.events(["rule", "alarm"]) as events:
                assert await events.read(0) is None
                await ends.pass_through(SECOND_GROUP)
                event = await events.read(20)
                assert event is not None
                assert (event.event, event.alarm and event.alarm.code) == ("raised", "silent")
                assert events.missed == 0
            with pytest.raises(mcr.McrError, match=r"ended|closed"):
                await events.read()
            rest = relay.events()
            assert await rest.read(0) is None
            await relay.stop()
            assert [event async for event in rest] == []

    with no_warnings():
        run(follow())


def test_waiting() -> None:
    """For a time, or until another task stops the relay; a cancelled wait leaves nothing behind."""

    async def wait() -> None:
        async with mcr.AsyncRelay(ingress="udp") as relay:
            assert not await relay.wait(0)
            assert not await relay.wait(0.05)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(relay.wait(), 0.05)
            waiting = asyncio.create_task(relay.wait())
            await relay.stop()
            assert await waiting
            with pytest.raises(mcr.ArgumentError, match="timeout_s"):
                await relay.wait(-1)

    with no_warnings():
        run(wait())


def test_the_event_loop_is_never_blocked(ends: Ends) -> None:
    """While another thread holds the relay's lock, as during a long change, the loop turns."""

    async def work() -> None:
        async with mcr.AsyncRelay(ends.rules[0], ingress="udp") as relay:
            frames = relay.capture()
            await frames.__aenter__()
            held, free = threading.Event(), threading.Event()

            def hold() -> None:
                with relay._relay._life.locked():
                    held.set()
                    free.wait(WITHIN_S)

            holder = threading.Thread(target=hold)
            holder.start()
            held.wait()
            async with ticks() as longest:
                calls = [
                    asyncio.create_task(each)
                    for each in (
                        relay.stats(),
                        relay.rules(),
                        relay.warnings(),
                        relay.add_rule(ends.rules[1]),
                        relay.explain(f"{GROUP}%lo:{PORT}"),
                        relay.wait(1),
                        relay.events().read(0),
                        frames.__aexit__(None, None, None),
                    )
                ]
                await asyncio.sleep(0.5)
                assert not all(call.done() for call in calls)
                free.set()
                await asyncio.gather(*calls)
            holder.join()
            assert longest[0] < 0.4
            assert len(await relay.rules()) == 2

    run(work())


def test_a_cancelled_start_leaves_no_relay(ends: Ends) -> None:
    """Whether its thread had begun or not."""

    async def cancel(after_s: float) -> None:
        relay = mcr.AsyncRelay(*ends.rules, ingress="udp")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(after_s), relay:
                await asyncio.sleep(WITHIN_S)
        assert repr(relay) == "<mcr.AsyncRelay closed, 2 rules>"

    with no_warnings():
        for after_s in (0, 0.0005, 0.002, 0.01):
            run(cancel(after_s))


Streams = Callable[[Any], list[Any]]


async def leave(stream: Any) -> None:  # noqa: ANN401 -- streams of several classes
    """Leave a loop over a stream with the first item, and forget it."""
    async for _item in stream:
        break


async def abandon(stream: Any) -> None:  # noqa: ANN401 -- as above
    """Cancel a loop over a stream that waits for an item."""

    async def follow() -> None:
        async for _item in stream:
            pass

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_loops_that_are_left_or_cancelled_warn_of_nothing(ends: Ends) -> None:
    """Over events, captures and traces of a relay; each of them ends with its last reference."""

    async def work() -> None:
        rule = ends.rules[0]
        async with mcr.AsyncRelay(rule, ingress="udp") as relay:
            await abandon(relay.events())
            await abandon(relay.capture())
            await abandon(relay.trace("one"))
            for stream in (relay.capture("one"), relay.trace("one")):
                leaving = asyncio.create_task(leave(stream))
                del stream
                await asyncio.sleep(0.1)
                await ends.pass_through(GROUP)
                await leaving
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0), relay.capture():
                    pass
            gc.collect()
            assert not relay._relay._events.is_read
            # At most four taps run at a time: none of the five above is left.
            streams = [relay.capture() for _ in range(4)]
            for each in streams:
                await each.__aenter__()
            for each in streams:
                await each.__aexit__(None, None, None)

    with no_warnings():
        run(work())


def test_loops_over_a_daemon_that_are_left_or_cancelled_warn_of_nothing(ends: Ends) -> None:
    """Over its events, captures and traces, by both clients."""

    async def work(client: mcr.AsyncClient) -> None:
        async with client:
            await client.add_rules([ends.rules[0]])
            await leave(client.events(after=0))
            await abandon(client.events())
            await abandon(client.capture())
            await abandon(client.trace("one"))
            for stream in (client.capture("one"), client.trace("one")):
                leaving = asyncio.create_task(leave(stream))
                del stream
                await asyncio.sleep(0.3)
                await ends.pass_through(GROUP)
                await leaving

    with serving(None, "--ingress", "udp") as daemon, no_warnings():
        run(work(mcr.AsyncClient(daemon.socket)))
        with daemon.client() as client:
            for _event in client.events(after=0):
                break
            client.capture().read(0)


def test_it_has_what_the_blocking_class_has() -> None:
    """The same names, arguments and defaults; properties are coroutines, as they may wait."""
    names = {name for name in dir(mcr.Relay) if not name.startswith("_")}
    assert {name for name in dir(mcr.AsyncRelay) if not name.startswith("_")} == names
    for name in ("__init__", *names):
        blocking, awaited = getattr(mcr.Relay, name), getattr(mcr.AsyncRelay, name)
        if isinstance(blocking, property):
            assert inspect.iscoroutinefunction(awaited)
            continue
        expected = inspect.signature(blocking).parameters
        assert dict(inspect.signature(awaited).parameters) == dict(expected), name
        if name not in {"__init__", "events", "capture", "trace"}:
            assert inspect.iscoroutinefunction(awaited), name
