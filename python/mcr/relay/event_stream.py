"""The events of a relay in this process: a bounded queue for each reader."""

import threading
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Self

from ..alarms.event import Event
from ..alarms.event_iterator import EventIterator
from ..errors import McrError
from ..time_limit import time_limit

QUEUE_EVENTS = 1024
"""The most unread events of a stream, as many as a daemon keeps."""


class RelayEventStream(EventIterator):
    """The events of a relay, for `for` and `async for`; it ends when the relay stops.

    Unread events wait in a queue of 1024. Later ones are dropped: in their place comes an event
    ``gap``, and `missed` counts them. Any thread or event loop may read, and each event goes to one
    of them.
    """

    def __init__(
        self, kinds: Collection[str], on_close: Callable[["RelayEventStream"], None]
    ) -> None:
        """Created by `Relay.events`."""
        self.missed = 0
        """The number of events that were dropped so far."""
        self._kinds = frozenset(kinds)
        self._on_close = on_close
        self._queue: deque[Event] = deque()
        self._gap: Event | None = None
        self._is_ended = False
        self._changed = threading.Condition()
        self._wakers: list[Callable[[], object]] = []

    def read(self, timeout_s: float | None = None) -> Event | None:
        """Wait for the next event; None if none arrives within `timeout_s` seconds.

        Raises:
            McrError: the stream has ended, and all its events were read.
        """
        limit_s = time_limit(timeout_s)
        ends_s = None if limit_s is None else monotonic() + limit_s
        with self._changed:
            while (event := self._take()) is None:
                if self._is_ended:
                    raise McrError("the stream of events has ended")
                left_s = None if ends_s is None else ends_s - monotonic()
                if left_s is not None and left_s <= 0:
                    return None
                self._changed.wait(left_s)
            return event

    def close(self) -> None:
        """End the stream, also for a thread or task that waits for an event. Idempotent."""
        self.end()
        self._on_close(self)

    def end(self) -> None:
        """Add no more events; those in the queue can be read. The relay calls this."""
        with self._changed:
            self._is_ended = True
            self._wake()

    def offer(self, event: Event) -> None:
        """Add an event of a kind that is read. The relay calls this."""
        if event.kind not in self._kinds:
            return
        with self._changed:
            if self._is_ended:
                return
            if len(self._queue) < QUEUE_EVENTS and self._gap is None:
                self._queue.append(event)
            else:
                self._miss(event)
            self._wake()

    @property
    def _is_over(self) -> bool:
        return self._is_ended

    def __aiter__(self) -> Self:
        """The stream itself."""
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event in the running event loop of asyncio."""
        import asyncio  # noqa: PLC0415 -- only who awaits needs it

        loop = asyncio.get_running_loop()
        while True:
            with self._changed:
                event = self._take()
                if event is not None:
                    return event
                if self._is_ended:
                    raise StopAsyncIteration
                waiter = loop.create_future()
                self._wakers.append(partial(loop.call_soon_threadsafe, _finish, waiter))
            await waiter

    async def __aenter__(self) -> Self:
        """Return the stream."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _take(self) -> Event | None:
        if self._queue:
            return self._queue.popleft()
        gap, self._gap = self._gap, None
        return gap

    def _miss(self, event: Event) -> None:
        self.missed += 1
        missed = 1 if self._gap is None else 1 + (self._gap.missed or 0)
        text = f"{missed} events were dropped, because they were not read in time"
        fields = {"missed": missed}
        self._gap = Event(event.sequence, event.at, "gap", "gap", text, fields)

    def _wake(self) -> None:
        self._changed.notify_all()
        wakers, self._wakers = self._wakers, []
        for wake in wakers:
            with suppress(RuntimeError):  # the loop was closed
                wake()


def _finish(waiter: object) -> None:
    """Wake a task, unless it was cancelled."""
    import asyncio  # noqa: PLC0415 -- as above

    if isinstance(waiter, asyncio.Future) and not waiter.done():
        waiter.set_result(None)
