"""The stream of events: numbers, replay, gaps."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mcr.daemon.control import limits
from mcr.daemon.control.events import EventBus, Subscription
from mcr.protocol.constants import REPLAY_EVENTS, EventKind


class Reader:
    """A subscriber that reads on request."""

    def __init__(
        self, bus: EventBus, kinds: list[str] | None = None, after: int | None = None
    ) -> None:
        self.got: list[dict[str, Any]] = []
        self.unread = 0
        self.subscription: Subscription = bus.subscribe(kinds, after, self._take, self._unread)

    def _take(self, line: bytes) -> None:
        message = json.loads(line)
        assert message["method"] == "event"
        self.got.append(message["params"])

    def _unread(self) -> int:
        return self.unread

    def numbers(self) -> list[int]:
        """The sequence numbers of the received events."""
        return [event["sequence"] for event in self.got]


def publish(bus: EventBus, count: int, kind: EventKind = "rule") -> None:
    """Publish some events."""
    for _ in range(count):
        bus.publish(kind, "added", "a rule was added", id="x", name=None)


def test_events_are_numbered_and_have_fields() -> None:
    """From 1, with the fields of their kind."""
    bus = EventBus()
    reader = Reader(bus)
    reader.subscription.pump()
    publish(bus, 2)
    assert reader.numbers() == [1, 2]
    assert reader.got[0] | {"at": 0} == {
        "sequence": 1,
        "at": 0,
        "kind": "rule",
        "event": "added",
        "text": "a rule was added",
        "id": "x",
        "name": None,
    }


def test_events_follow_the_answer() -> None:
    """A subscription sends nothing before the first `pump`."""
    bus = EventBus()
    publish(bus, 3)
    reader = Reader(bus, after=1)
    publish(bus, 1)
    assert reader.got == []
    reader.subscription.pump()
    assert reader.numbers() == [2, 3, 4]


def test_the_replay_is_bounded() -> None:
    """The oldest events are dropped, and counted."""
    bus = EventBus()
    publish(bus, REPLAY_EVENTS + 10)
    assert (bus.oldest, bus.missed(4), bus.missed(10), bus.missed(None)) == (11, 6, 0, 0)
    reader = Reader(bus, after=4)
    reader.subscription.pump()
    assert reader.numbers() == list(range(11, REPLAY_EVENTS + 11))


def test_numbers_continue_across_processes() -> None:
    """Events of another process are missed; numbers reserved by a snapshot are not."""
    noted: list[tuple[str, int]] = []
    bus = EventBus({"rule": 1000, "log": 900}, lambda *about: noted.append(about))
    bus.hold()
    publish(bus, 1)
    bus.resume_after(5000)
    assert (bus.missed(400), bus.missed(900)) == (600, 100)
    assert (bus.missed(900, ["log", "worker"]), bus.missed(899, ["log"])) == (0, 101)
    assert (bus.sequence, bus.oldest, noted) == (1001, 1001, [("rule", 1001)])


def test_numbers_continue_across_daemons() -> None:
    """The snapshot counts only if no process of this daemon has numbered an event."""
    bus = EventBus()
    bus.hold()
    publish(bus, 1)
    bus.resume_after(5000)
    assert (bus.sequence, bus.oldest) == (5001, 5001)
    assert (bus.missed(4999, ["log"]), bus.missed(5000)) == (1, 0)


def test_only_the_requested_kinds() -> None:
    """In the replay and live."""
    bus = EventBus()
    publish(bus, 1, "log")
    publish(bus, 1, "worker")
    reader = Reader(bus, ["worker"], after=0)
    reader.subscription.pump()
    publish(bus, 1, "log")
    publish(bus, 1, "worker")
    assert reader.numbers() == [2, 4]


def test_a_slow_reader_gets_a_gap() -> None:
    """In place of the dropped events."""
    bus = EventBus()
    reader = Reader(bus)
    reader.subscription.pump()
    reader.unread = limits.EVENT_AHEAD_BYTES
    publish(bus, limits.SUBSCRIBER_EVENTS + 7)
    assert reader.got == []
    reader.unread = 0
    reader.subscription.pump()
    publish(bus, 1)
    gap = reader.got[limits.SUBSCRIBER_EVENTS]
    assert (gap["event"], gap["missed"]) == ("gap", 7)
    assert gap["sequence"] == limits.SUBSCRIBER_EVENTS + 7
    assert reader.numbers()[-1] == limits.SUBSCRIBER_EVENTS + 8


def test_nothing_follows_the_end() -> None:
    """The bus has removed the subscription."""
    bus = EventBus()
    reader = Reader(bus)
    reader.subscription.pump()
    reader.subscription.end()
    publish(bus, 1)
    assert reader.got == []


@given(st.lists(st.sampled_from(["publish", "stall", "read"]), max_size=40))
def test_sent_and_missed_add_up(steps: list[str]) -> None:
    """Every event is sent, or counted in a gap at its place."""
    bus = EventBus()
    reader = Reader(bus)
    reader.subscription.pump()
    for step in steps:
        if step == "publish":
            publish(bus, limits.SUBSCRIBER_EVENTS // 3)
        else:
            reader.unread = limits.EVENT_AHEAD_BYTES if step == "stall" else 0
            if step == "read":
                reader.subscription.pump()
    reader.unread = 0
    reader.subscription.pump()
    expected = 1
    for event in reader.got:
        if event["event"] == "gap":
            expected += event["missed"]
            assert event["sequence"] == expected - 1
        else:
            assert event["sequence"] == expected
            expected += 1
    assert expected == bus.sequence + 1
