"""The stream of events: numbers, replay, gaps."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mcr.daemon.control import limits
from mcr.daemon.control.events import EventBus, Subscription
from mcr.protocol.constants import REPLAY_EVENTS, EventKind


class Reader:
    """A subscriber that reads when it is told to."""

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
        """The sequence numbers of what came."""
        return [event["sequence"] for event in self.got]


def publish(bus: EventBus, count: int, kind: EventKind = "rule") -> None:
    """Some events."""
    for _ in range(count):
        bus.publish(kind, "added", "a rule was added", id="x", name=None)


def test_events_are_numbered_and_say_what_they_are_about() -> None:
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


def test_nothing_flows_before_the_answer() -> None:
    """The first `pump` stands behind it."""
    bus = EventBus()
    publish(bus, 3)
    reader = Reader(bus, after=1)
    publish(bus, 1)
    assert reader.got == []
    reader.subscription.pump()
    assert reader.numbers() == [2, 3, 4]


def test_the_replay_is_bounded_and_says_what_it_lacks() -> None:
    """The oldest go first."""
    bus = EventBus()
    publish(bus, REPLAY_EVENTS + 10)
    assert (bus.oldest, bus.missed(4), bus.missed(10), bus.missed(None)) == (11, 6, 0, 0)
    reader = Reader(bus, after=4)
    reader.subscription.pump()
    assert reader.numbers() == list(range(11, REPLAY_EVENTS + 11))


def test_numbers_go_on_across_processes() -> None:
    """What another process told is missed, not invented; what a snapshot reserves is no event."""
    noted: list[tuple[str, int]] = []
    bus = EventBus({"rule": 1000, "log": 900}, lambda *about: noted.append(about))
    bus.hold()
    publish(bus, 1)
    bus.resume_after(5000)
    assert (bus.missed(400), bus.missed(900)) == (600, 100)
    assert (bus.missed(900, ["log", "worker"]), bus.missed(899, ["log"])) == (0, 101)
    assert (bus.sequence, bus.oldest, noted) == (1001, 1001, [("rule", 1001)])


def test_numbers_go_on_across_daemons() -> None:
    """Where none of this daemon's processes has numbered anything, a snapshot says more."""
    bus = EventBus()
    bus.hold()
    publish(bus, 1)
    bus.resume_after(5000)
    assert (bus.sequence, bus.oldest) == (5001, 5001)
    assert (bus.missed(4999, ["log"]), bus.missed(5000)) == (1, 0)


def test_only_the_kinds_asked_for() -> None:
    """In the replay and live."""
    bus = EventBus()
    publish(bus, 1, "log")
    publish(bus, 1, "worker")
    reader = Reader(bus, ["worker"], after=0)
    reader.subscription.pump()
    publish(bus, 1, "log")
    publish(bus, 1, "worker")
    assert reader.numbers() == [2, 4]


def test_a_slow_reader_is_told_what_it_missed() -> None:
    """In the place of what was left out."""
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


def test_nothing_comes_after_the_end() -> None:
    """The bus has forgotten it."""
    bus = EventBus()
    reader = Reader(bus)
    reader.subscription.pump()
    reader.subscription.end()
    publish(bus, 1)
    assert reader.got == []


@given(st.lists(st.sampled_from(["publish", "stall", "read"]), max_size=40))
def test_told_and_missed_add_up(steps: list[str]) -> None:
    """Every event comes, or is counted in a gap at its place."""
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
