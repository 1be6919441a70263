"""The numbered stream of events, shared by all subscribers.

Owns the numbers, the replay, and the gaps in the stream of a slow subscriber. Events leave as lines
through a callback; connections are the server's.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Unpack

from typing_extensions import TypedDict

from ...alarms.event import Event
from ...choices import Facility, Level
from ...protocol.constants import EVENT_KINDS, REPLAY_EVENTS, EventKind
from . import limits
from .api.jsonrpc import encode


class EventFields(TypedDict, total=False):
    """The members that only some kinds of events have."""

    id: str
    name: str | None
    output: int
    number: int
    pid: int | None
    cause: str
    interface: str
    index: int
    level: Level
    facility: Facility
    missed: int
    code: str
    expected: float
    seen: float
    since: float
    duration_s: float
    counts: Mapping[str, int]
    total: Mapping[str, int]
    address: str
    before: str
    after: str
    changes: int
    what: str
    of: int
    source: str
    source_port: int
    group: str
    port: int


class _PublishedEvent:
    """An event with its number; a change of thousands of rules has more than clients will want."""

    def __init__(
        self, sequence: int, kind: str, event: str, text: str, fields: EventFields
    ) -> None:
        self.sequence, self.kind = sequence, kind
        self._event = Event(sequence, round(time.time(), 6), kind, event, text, fields)

    @cached_property
    def line(self) -> bytes:
        """The JSON-RPC notification, as a line."""
        params = self._event.as_dict()
        return encode({"jsonrpc": "2.0", "method": "event", "params": params}) + b"\n"


class EventBus:
    """The stream of events."""

    def __init__(
        self,
        last: Mapping[str, int] | None = None,
        record: Callable[[str, int], None] | None = None,
    ) -> None:
        """Continue the stream of an earlier control process; for an earlier daemon see `hold`.

        Args:
            last: the number of the last event of each kind; 0 if there was none.
            record: called with the kind and number of each event before it is published.
        """
        self._evicted = dict.fromkeys(EVENT_KINDS, 0) | dict(last or {})
        """The number of the last event of each kind that is no longer available for replay."""
        self.sequence = max(self._evicted.values())
        """The number of the last event; 0 before the first."""
        self._record = record
        self.on_published: Callable[[], None] | None = None
        """Called after each event."""
        self._held: list[tuple[EventKind, str, str, EventFields]] | None = None
        self._replay: deque[_PublishedEvent] = deque(maxlen=REPLAY_EVENTS)
        self._subscriptions: set[Subscription] = set()

    @property
    def oldest(self) -> int:
        """The number of the oldest event available for replay; without any, of the next event."""
        return self._replay[0].sequence if self._replay else self.sequence + 1

    def hold(self) -> None:
        """Hold events back until `resume_after` sets the number of the first one."""
        self._held = []

    def resume_after(self, sequence: int) -> None:
        """Publish the held events, and number them from the one after `sequence`.

        If an earlier process of this daemon has numbered events, continue after its last one
        instead.
        """
        if self.sequence == 0:
            self.sequence = sequence
            self._evicted = dict.fromkeys(EVENT_KINDS, sequence)
        held, self._held = self._held or [], None
        for event in held:
            self._publish(*event)

    def publish(
        self, kind: EventKind, event: str, text: str, **fields: Unpack[EventFields]
    ) -> None:
        """Publish an event.

        Args:
            kind: one of `EVENT_KINDS`.
            event: what happened, as one word.
            text: what happened, as a sentence.
            fields: further members of the event.
        """
        if self._held is None:
            self._publish(kind, event, text, fields)
        elif len(self._held) < REPLAY_EVENTS:
            self._held.append((kind, event, text, fields))

    def subscribe(
        self,
        kinds: Collection[str] | None,
        after: int | None,
        send: Callable[[bytes], None],
        unread_bytes: Callable[[], int],
    ) -> "Subscription":
        """Create a subscription with the events to replay; it sends nothing before `pump`.

        Args:
            kinds: the kinds of events; None for all.
            after: replay the available events after this number; None for no replay.
            send: sends a line to the subscriber.
            unread_bytes: returns how many of the sent bytes are unread.
        """
        subscription = Subscription(self, frozenset(kinds or EVENT_KINDS), send, unread_bytes)
        if after is not None:
            for event in self._replay:
                if event.sequence > after:
                    subscription.offer(event)
        self._subscriptions.add(subscription)
        return subscription

    def missed(self, after: int | None, kinds: Collection[str] | None = None) -> int:
        """The count of numbers after `after` not available for replay; 0 if none is of `kinds`."""
        if after is None or all(self._evicted[kind] <= after for kind in kinds or EVENT_KINDS):
            return 0
        return max(0, self.oldest - 1 - after)

    def unsubscribe(self, subscription: "Subscription") -> None:
        """Remove a subscription."""
        self._subscriptions.discard(subscription)

    def _publish(self, kind: EventKind, event: str, text: str, fields: EventFields) -> None:
        self.sequence += 1
        if self._record is not None:
            self._record(kind, self.sequence)
        published = _PublishedEvent(self.sequence, kind, event, text, fields)
        if len(self._replay) == REPLAY_EVENTS:
            evicted = self._replay[0]
            self._evicted[evicted.kind] = evicted.sequence
        self._replay.append(published)
        for subscription in tuple(self._subscriptions):
            subscription.offer(published)
        if self.on_published is not None:
            self.on_published()


class Subscription:
    """One subscriber with its bounded queue of events."""

    def __init__(
        self,
        bus: EventBus,
        kinds: frozenset[str],
        send: Callable[[bytes], None],
        unread_bytes: Callable[[], int],
    ) -> None:
        """See `EventBus.subscribe`."""
        self._events = bus
        self._kinds = kinds
        self._send = send
        self._unread_bytes = unread_bytes
        self._queue: deque[bytes] = deque()
        self._missed = 0
        self._last_missed = 0
        self._is_active = False

    def offer(self, event: _PublishedEvent) -> None:
        """Queue an event of a subscribed kind, or count it as missed if the queue is full."""
        if event.kind not in self._kinds:
            return
        if len(self._queue) >= limits.SUBSCRIBER_EVENTS:
            self._missed += 1
            self._last_missed = event.sequence
            return
        self._queue_gap()
        self._queue.append(event.line)
        if self._is_active:
            self.pump()

    def pump(self) -> None:
        """Send queued events until the subscriber has too many unread bytes."""
        self._is_active = True
        while self._queue and self._unread_bytes() < limits.EVENT_AHEAD_BYTES:
            self._send(self._queue.popleft())
        if not self._queue and self._missed:
            self._queue_gap()
            self._send(self._queue.popleft())

    def end(self) -> None:
        """Drop the queue and unsubscribe."""
        self._queue.clear()
        self._is_active = False
        self._events.unsubscribe(self)

    def _queue_gap(self) -> None:
        if self._missed:
            missed, self._missed = self._missed, 0
            text = f"{missed} events were dropped, because they were not read in time"
            gap = _PublishedEvent(self._last_missed, "gap", "gap", text, {"missed": missed})
            self._queue.append(gap.line)
