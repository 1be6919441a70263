"""One numbered stream of events for all subscribers.

Owns the numbers, the replay and what becomes of events that a subscriber is too slow for. Knows
no connection: events leave as lines through a function.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from ...protocol.constants import EVENT_KINDS, REPLAY_EVENTS
from . import limits
from .api.jsonrpc import encode


class _Told(NamedTuple):
    sequence: int
    kind: str
    line: bytes


class EventBus:
    """The stream of events."""

    def __init__(
        self,
        last: Mapping[str, int] | None = None,
        note: Callable[[str, int], None] | None = None,
    ) -> None:
        """Go on with the stream of an earlier process, or of an earlier daemon by `hold`.

        Args:
            last: the number of the last event of each kind; 0 where there was none.
            note: called with the kind and the number of each event before it is told.
        """
        self._forgotten = dict.fromkeys(EVENT_KINDS, 0) | dict(last or {})
        """The number of the last event of each kind that is not kept."""
        self.sequence = max(self._forgotten.values())
        """The number of the last event; 0 before the first."""
        self._note = note
        self.on_published: Callable[[], None] | None = None
        """Called behind each event."""
        self._held: list[tuple[str, str, str, Mapping[str, object]]] | None = None
        self._past: deque[_Told] = deque(maxlen=REPLAY_EVENTS)
        self._subscriptions: set[Subscription] = set()

    @property
    def oldest(self) -> int:
        """The number of the first event that is kept, or of the next one if none is."""
        return self._past[0].sequence if self._past else self.sequence + 1

    def hold(self) -> None:
        """Number no event before `go_on_after` says where the stream has been."""
        self._held = []

    def go_on_after(self, sequence: int) -> None:
        """Number the next event behind this number, beginning with those that were held.

        Where an earlier process of this daemon has numbered events, they go on behind its last.
        """
        if self.sequence == 0:
            self.sequence = sequence
            self._forgotten = dict.fromkeys(EVENT_KINDS, sequence)
        held, self._held = self._held or [], None
        for about in held:
            self._publish(*about)

    def publish(self, kind: str, event: str, text: str, **fields: object) -> None:
        """Tell an event: its kind, what happened in a word and in a sentence, and its fields."""
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
        """A subscription that holds what is replayed; nothing is sent before its first `pump`.

        Args:
            kinds: the kinds of events, None for all.
            after: events behind this number come first, as far as they are kept; None for none.
            send: takes a line.
            unread_bytes: how much of what was sent is unread.
        """
        made = Subscription(self, frozenset(kinds or EVENT_KINDS), send, unread_bytes)
        if after is not None:
            for told in self._past:
                if told.sequence > after:
                    made.offer(told)
        self._subscriptions.add(made)
        return made

    def missed(self, after: int | None, kinds: Collection[str] | None = None) -> int:
        """How many numbers behind this one are not kept any more; 0 if none is of the kinds."""
        if after is None or all(self._forgotten[kind] <= after for kind in kinds or EVENT_KINDS):
            return 0
        return max(0, self.oldest - 1 - after)

    def forget(self, subscription: "Subscription") -> None:
        """Tell this one nothing more."""
        self._subscriptions.discard(subscription)

    def _publish(self, kind: str, event: str, text: str, fields: Mapping[str, object]) -> None:
        self.sequence += 1
        if self._note is not None:
            self._note(kind, self.sequence)
        told = _Told(self.sequence, kind, event_line(self.sequence, kind, event, text, fields))
        if len(self._past) == REPLAY_EVENTS:
            forgotten = self._past[0]
            self._forgotten[forgotten.kind] = forgotten.sequence
        self._past.append(told)
        for subscription in tuple(self._subscriptions):
            subscription.offer(told)
        if self.on_published is not None:
            self.on_published()


class Subscription:
    """One subscriber and the events that wait for it, of which there are only so many."""

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
        self._waiting: deque[bytes] = deque()
        self._missed = 0
        self._last_missed = 0
        self._flows = False

    def offer(self, told: _Told) -> None:
        """Take an event, or count it as missed where too many wait."""
        if told.kind not in self._kinds:
            return
        if len(self._waiting) >= limits.SUBSCRIBER_EVENTS:
            self._missed += 1
            self._last_missed = told.sequence
            return
        self._note_gap()
        self._waiting.append(told.line)
        if self._flows:
            self.pump()

    def pump(self) -> None:
        """Send what waits, as far as the subscriber reads."""
        self._flows = True
        while self._waiting and self._unread_bytes() < limits.EVENT_AHEAD_BYTES:
            self._send(self._waiting.popleft())
        if not self._waiting and self._missed:
            self._note_gap()
            self._send(self._waiting.popleft())

    def end(self) -> None:
        """Take and send nothing more."""
        self._waiting.clear()
        self._flows = False
        self._events.forget(self)

    def _note_gap(self) -> None:
        if self._missed:
            missed, self._missed = self._missed, 0
            text = f"{missed} events were left out, since they were not read in time"
            gap = event_line(self._last_missed, "gap", "gap", text, {"missed": missed})
            self._waiting.append(gap)


def event_line(sequence: int, kind: str, event: str, text: str, fields: Mapping[str, Any]) -> bytes:
    """The notification that tells an event."""
    about = {"sequence": sequence, "at": round(time.time(), 6), "kind": kind, "event": event}
    params = {**about, "text": text, **fields}
    return encode({"jsonrpc": "2.0", "method": "event", "params": params}) + b"\n"
