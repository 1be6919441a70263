"""Streams of events: live, replayed, and across restarts of the daemon."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.fake_supervisor import FakeSupervisor, control_process
from tests.support.line_proxy import LineProxy
from tests.support.raw_client import RawClient

import mcr
from mcr.client.session import Receive, Step
from mcr.client.wire import Wire

from .clients import Opener


def last_event(control: FakeSupervisor) -> int:
    """The number of the last event so far."""
    with RawClient(control.path) as client:
        number: int = client.call("hello", protocol=1)["sequence"]
    return number


def notes(control: FakeSupervisor, count: int) -> list[str]:
    """Cause this many events; return their texts."""
    before = last_event(control)
    texts = [control.note() for _ in range(count)]
    wait_until(lambda: last_event(control) == before + count)
    return texts


def until_text(events: Iterator[mcr.Event], text: str) -> list[mcr.Event]:
    """Read up to the event with this text; return all of them."""
    heard = [next(events)]
    while heard[-1].text != text:
        heard.append(next(events))
    return heard


def test_events(client: mcr.Client, control: FakeSupervisor) -> None:
    """Events after the subscription, of the requested kinds."""
    before = last_event(control)
    with client.events(["rule", "worker"]) as events:
        assert events.read(0.05) is None
        notes(control, 1)
        pid = control.workers[0].pid
        control.kill_worker(0)
        event = next(events)
        assert (event.sequence, event.kind, event.event) == (before + 2, "worker", "died")
        assert event.fields == {"number": 0, "pid": pid, "cause": "killed by SIGKILL"}
        assert event.missed is None
        assert [next(events).event for _ in range(2)] == ["started", "restored"]
        assert events.read(0.05) is None


def test_events_are_replayed(client: mcr.Client, control: FakeSupervisor) -> None:
    """The replay begins after the number, with a gap for the unavailable events."""
    notes(control, 2)
    known = last_event(control)
    notes(control, 3)
    control.restart_control()
    with client.events(after=known) as events:
        gap, first = next(events), next(events)
        assert (gap.event, gap.missed, gap.sequence) == ("gap", 3, known + 3)
        assert first.sequence == known + 4
        again = until_text(events, control.note())
        assert [each.sequence for each in again][:1] == [known + 5]
    kept = again[-1].sequence
    text = control.note()
    with client.events(after=kept) as events:
        assert (event := next(events)).sequence == kept + 1
        assert event.text == text


def test_events_across_a_restart(
    proxied: mcr.Client, proxy: LineProxy, control: FakeSupervisor
) -> None:
    """The stream continues after the last event received; lost events are a gap."""
    with proxied.events() as events:
        assert events.read(0.01) is None
        heard = until_text(events, control.note())
        control.restart_control()
        heard += until_text(events, control.note())
        assert not any(each.missed for each in heard)
        proxy.disconnect()
        notes(control, 3)
        control.restart_control()
        heard += until_text(events, control.note())
    (gap,) = (each for each in heard if each.event == "gap")
    assert gap.missed == 3
    assert gap.sequence == heard[heard.index(gap) - 1].sequence + 3
    numbers = [each.sequence for each in heard]
    missed = [gap.sequence - 2, gap.sequence - 1]
    assert sorted(numbers + missed) == list(range(numbers[0], numbers[-1] + 1))


def test_events_of_another_daemon(tmp_path: Path, opened: Opener) -> None:
    """A daemon with lower numbers is another one: the gap has no count."""
    with control_process(tmp_path, name="s") as first:
        notes(first, 20)
        client = opened(first.path)
        events = client.events(after=0)
        last = last_event(first)
        assert [next(events).sequence for _ in range(last)] == list(range(1, last + 1))
    with control_process(tmp_path, name="s") as second, events:
        gap = next(events)
        assert (gap.event, gap.missed) == ("gap", None)
        heard = until_text(events, second.note())
    assert [each.sequence for each in heard] == list(range(1, len(heard) + 1))


def test_a_gap_in_the_stream(proxied: mcr.Client, proxy: LineProxy) -> None:
    """A slow reader gets the number of missed events."""
    with proxied.events() as events:
        assert events.read(0.01) is None
        about = {"at": 1.5, "kind": "gap", "text": "7 events were dropped"}
        params: dict[str, object] = {"sequence": 9, "event": "gap", "missed": 7, **about}
        proxy.send({"jsonrpc": "2.0", "method": "event", "params": params})
        gap = next(events)
        assert (gap.kind, gap.missed, gap.sequence) == ("gap", 7, 9)
        proxy.send({"jsonrpc": "2.0", "method": "event", "params": {"event": "added"}})
        with pytest.raises(mcr.DaemonError, match="malformed event: sequence"):
            events.read(5)


def test_events_end_with_the_daemon(proxy: LineProxy, opened: Opener) -> None:
    """After the client's time limit, with the error for a missing daemon."""
    with opened(proxy.path, timeout_s=0.3).events() as events:
        assert events.read(0.01) is None
        proxy.stop()
        with pytest.raises(mcr.DaemonError, match="no daemon listens at"):
            events.read(5)


def test_a_closed_stream(client: mcr.Client) -> None:
    """It has no more events, and `read` raises an error."""
    events = client.events()
    assert events.read(0.01) is None
    events.close()
    with pytest.raises((StopIteration, StopAsyncIteration)):
        next(events)
    with pytest.raises(mcr.McrError, match="the stream of events is closed"):
        events.read(1)


def test_a_stream_that_another_thread_closes(control: FakeSupervisor) -> None:
    """The waiting thread returns."""
    with mcr.Client(control.path) as client:
        events = client.events()
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.extend(each.text for each in events))
        thread.start()
        one = control.note()
        wait_until(lambda: seen == [one])
        events.close()
        thread.join(10)
        assert not thread.is_alive()


def test_a_stream_that_another_task_closes(control: FakeSupervisor) -> None:
    """The waiting task returns."""

    async def listen() -> tuple[list[str], str]:
        async with mcr.AsyncClient(control.path) as client, client.events() as events:
            seen: list[str] = []

            async def collect() -> None:
                async for event in events:
                    seen.append(event.text)

            task = asyncio.create_task(collect())
            one = control.note()
            async with asyncio.timeout(10):
                while not seen:
                    await asyncio.sleep(0.005)
                await events.close()
                await task
            return seen, one

    seen, one = asyncio.run(listen())
    assert seen == [one]


def test_an_interrupted_read_loses_no_event(
    control: FakeSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler raises after the bytes have arrived and before `read` returns."""
    take = Wire._execute

    def take_and_be_interrupted(wire: Wire, step: Step) -> bytes | None:
        received = take(wire, step)
        if isinstance(step, Receive):
            monkeypatch.undo()
            raise KeyboardInterrupt
        return received

    with mcr.Client(control.path).events() as events:
        one = control.note()
        monkeypatch.setattr(Wire, "_execute", take_and_be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            events.read()
        two = control.note()
        assert [next(events).text for _ in range(2)] == [one, two]


def test_a_cancelled_read_loses_no_event(control: FakeSupervisor) -> None:
    """It is cancelled in the iteration of the event loop in which the bytes arrive."""

    async def follow() -> None:
        with RawClient(control.path) as other:
            other.call("events.subscribe")
            async with mcr.AsyncClient(control.path).events() as events:
                assert await events.read(0.01) is None
                reading = asyncio.create_task(events.read())
                await asyncio.sleep(0.01)
                asyncio.get_running_loop().call_later(0, reading.cancel)
                one = control.note()
                other.line()
                time.sleep(0.01)  # the event is with all subscribers before the loop goes on
                with pytest.raises(asyncio.CancelledError):
                    await reading
                two = control.note()
                assert [(await anext(events)).text for _ in range(2)] == [one, two]

    asyncio.run(asyncio.wait_for(follow(), 20))
