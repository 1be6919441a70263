"""Streams of events: live, replayed, and over what happens to the daemon."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.fake_daemon import MadeUpDaemon

import mcr
from mcr.client.session import Receive, Step
from mcr.client.sync import Wire

Opener = Callable[..., mcr.Client]


def test_events(client: mcr.Client, daemon: MadeUpDaemon) -> None:
    """What happens after the subscription, of the kinds that were asked for."""
    daemon.happen("rule", "added", "before")
    with client.events(["rule", "worker"]) as events:
        assert events.read(0.05) is None
        daemon.happen("log", "record", "not asked for", level="info", facility="control")
        daemon.happen("worker", "died", "worker 0 died", number=0, pid=7, cause="killed")
        event = next(events)
        assert (event.sequence, event.kind, event.event) == (3, "worker", "died")
        assert event.fields == {"number": 0, "pid": 7, "cause": "killed"}
        assert event.missed is None
        assert events.read(0.05) is None


def test_events_from_before(client: mcr.Client, daemon: MadeUpDaemon) -> None:
    """The replay begins after the number, and what is gone is told first."""
    for number in range(5):
        daemon.happen("rule", "added", f"rule {number}")
    del daemon.events[:2]
    with client.events(after=1) as events:
        gap, first = next(events), next(events)
    assert (gap.event, gap.missed, gap.sequence) == ("gap", 1, 2)
    assert (first.sequence, first.text) == (3, "rule 2")


def test_events_over_a_restart(client: mcr.Client, daemon: MadeUpDaemon) -> None:
    """The stream goes on after what was heard last; what nobody kept is a gap."""
    with client.events() as events:
        daemon.happen("rule", "added", "one")
        assert next(events).text == "one"
        daemon.restart_control()
        wait_until(lambda: not daemon.connections)
        daemon.happen("worker", "died", "two")
        assert next(events).text == "two"
        daemon.restart_control()
        wait_until(lambda: not daemon.connections)
        for text in ("three", "four", "five"):
            daemon.happen("rule", "added", text)
        del daemon.events[:-1]
        gap, last = next(events), next(events)
        assert (gap.missed, last.text) == (2, "five")
        assert daemon.params[-1] == {"after": 2}


def test_events_of_another_daemon(client: mcr.Client, daemon: MadeUpDaemon) -> None:
    """One that counts from the beginning is a new one, and nobody knows what was missed."""
    for _ in range(3):
        daemon.happen("rule", "added", "old")
    with client.events(after=0) as events:
        assert [next(events).sequence for _ in range(3)] == [1, 2, 3]
        daemon.restart_control()
        wait_until(lambda: not daemon.connections)
        daemon.events.clear()
        daemon.sequence = 0
        daemon.happen("rule", "added", "new")
        gap, event = next(events), next(events)
    assert (gap.event, gap.missed) == ("gap", None)
    assert (event.sequence, event.text) == (1, "new")


def test_a_gap_in_the_stream(client: mcr.Client, daemon: MadeUpDaemon) -> None:
    """A reader that was too slow is told how many it missed."""
    with client.events() as events:
        assert events.read(0.01) is None
        about = {"at": 1.5, "kind": "gap", "text": "7 events were dropped"}
        daemon.tell({"sequence": 9, "event": "gap", "missed": 7, **about})
        gap = next(events)
        assert (gap.kind, gap.missed, gap.sequence) == ("gap", 7, 9)
        daemon.tell({"event": "added"})
        with pytest.raises(mcr.DaemonError, match=r"a wrong event\.sequence"):
            events.read(5)


def test_events_end_with_the_daemon(daemon: MadeUpDaemon, opened: Opener) -> None:
    """After the client's time, with the sentence for a missing daemon."""
    with opened(timeout_s=0.3).events() as events:
        assert events.read(0.01) is None
        daemon.stop()
        with pytest.raises(mcr.DaemonError, match="no daemon listens at"):
            events.read(5)


def test_a_closed_stream(client: mcr.Client, daemon: MadeUpDaemon) -> None:
    """It has no more events, and reading it is a mistake."""
    events = client.events()
    assert events.read(0.01) is None
    events.close()
    with pytest.raises((StopIteration, StopAsyncIteration)):
        next(events)
    with pytest.raises(mcr.McrError, match="the stream of events is closed"):
        events.read(1)


def test_a_stream_that_another_thread_closes(daemon: MadeUpDaemon, path: Path) -> None:
    """The one who waits comes to an end."""
    with mcr.Client(path) as client:
        events = client.events()
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.extend(each.text for each in events))
        thread.start()
        daemon.happen("rule", "added", "one")
        wait_until(lambda: seen == ["one"])
        events.close()
        thread.join(10)
        assert not thread.is_alive()


def test_a_stream_that_another_task_closes(daemon: MadeUpDaemon, path: Path) -> None:
    """The one who waits comes to an end."""

    async def listen() -> list[str]:
        async with mcr.AsyncClient(path) as client, client.events() as events:
            seen: list[str] = []

            async def collect() -> None:
                async for event in events:
                    seen.append(event.text)

            task = asyncio.create_task(collect())
            daemon.happen("rule", "added", "one")
            async with asyncio.timeout(10):
                while not seen:
                    await asyncio.sleep(0.005)
                await events.close()
                await task
            return seen

    assert asyncio.run(listen()) == ["one"]


def test_an_interrupted_read_loses_no_event(
    daemon: MadeUpDaemon, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception of a signal handler comes when the bytes are there, and nobody has them yet."""
    take = Wire._take

    def take_and_be_interrupted(wire: Wire, step: Step) -> bytes | None:
        received = take(wire, step)
        if isinstance(step, Receive):
            monkeypatch.undo()
            raise KeyboardInterrupt
        return received

    with mcr.Client(path).events() as events:
        daemon.happen("rule", "added", "one")
        monkeypatch.setattr(Wire, "_take", take_and_be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            events.read()
        daemon.happen("rule", "added", "two")
        assert [next(events).text for _ in range(2)] == ["one", "two"]


def test_a_cancelled_read_loses_no_event(daemon: MadeUpDaemon, path: Path) -> None:
    """It is cancelled in the very turn of the loop in which the bytes come."""

    async def follow() -> list[str]:
        async with mcr.AsyncClient(path).events() as events:
            reading = asyncio.create_task(events.read())
            await asyncio.sleep(0.01)
            asyncio.get_running_loop().call_later(0, reading.cancel)
            daemon.happen("rule", "added", "one")  # sent before the loop goes on
            with pytest.raises(asyncio.CancelledError):
                await reading
            daemon.happen("rule", "added", "two")
            return [(await anext(events)).text for _ in range(2)]

    assert asyncio.run(asyncio.wait_for(follow(), 20)) == ["one", "two"]
