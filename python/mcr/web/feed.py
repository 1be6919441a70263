"""The latest events of the daemon, and the streams of those who follow them.

Owns the messages that each stream has not sent yet: a stream that is too slow loses the oldest.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from ..alarms.event import Event
from ..errors import McrError
from . import limits


class StreamQueue:
    """The messages that one stream has not sent yet."""

    def __init__(self) -> None:
        """Have no message yet."""
        self._waiting = deque[bytes](maxlen=limits.STREAM_MESSAGES)
        self._missed = 0
        self._filled = asyncio.Event()

    def put(self, message: bytes) -> None:
        """Append a message; the oldest gives way if there is no room."""
        self._missed += len(self._waiting) == self._waiting.maxlen
        self._waiting.append(message)
        self._filled.set()

    async def take(self) -> bytes:
        """Wait for messages, and return all of them; a comment if none comes for some time."""
        try:
            async with asyncio.timeout(limits.KEEP_ALIVE_S):
                await self._filled.wait()
        except TimeoutError:
            return b": alive\n\n"
        self._filled.clear()
        gap = [encode_message("gap", {"missed": self._missed})] if self._missed else []
        self._missed = 0
        messages = b"".join([*gap, *self._waiting])
        self._waiting.clear()
        return messages


class EventFeed:
    """The latest events, and everyone who follows them."""

    def __init__(self) -> None:
        """Have no event yet."""
        self._kept = deque[Event](maxlen=limits.EVENTS)
        self._queues: set[StreamQueue] = set()

    def __len__(self) -> int:
        """The number of open streams."""
        return len(self._queues)

    @property
    def last(self) -> int:
        """The number of the last event; 0 before the first."""
        return self._kept[-1].sequence if self._kept else 0

    def add(self, event: Event) -> None:
        """Keep an event, and send it to all streams."""
        self._kept.append(event)
        self.send("event", event.as_dict())

    def send(self, kind: str, value: dict[str, Any]) -> None:
        """Send a message to all streams."""
        if self._queues:
            message = encode_message(kind, value)
            for queue in self._queues:
                queue.put(message)

    def events(self, rule_id: str | None = None) -> list[dict[str, Any]]:
        """The kept events, or those of a rule, oldest first."""
        return [
            event.as_dict()
            for event in self._kept
            if rule_id is None or event.fields.get("id") == rule_id
        ]

    @contextmanager
    def queue(self) -> Iterator[StreamQueue | None]:
        """A queue of messages from now on; None if too many streams are open."""
        if len(self._queues) >= limits.STREAMS:
            yield None
            return
        queue = StreamQueue()
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    async def follow(self, events: AsyncIterator[Event]) -> None:
        """Add all events of a client's stream; return when it has failed."""
        try:
            async for event in events:
                self.add(event)
        except McrError:
            return


def encode_message(kind: str, value: dict[str, Any]) -> bytes:
    """Encode a message of a stream (HTML, server-sent events)."""
    return f"event: {kind}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
