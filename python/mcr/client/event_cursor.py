"""A client's subscription to events: its position in the stream, and the gaps.

Does no input or output: it yields steps, like `session`, which it uses.
"""

import time
from collections import deque
from collections.abc import Iterable

from ..alarms.event import Event
from ..errors import ArgumentError, DaemonError
from ..json_codec import JsonError
from . import methods
from .jsonrpc import Notification
from .session import RETRY_S, Pause, Session, Steps


class EventCursor:
    """One subscription, which continues across connections."""

    def __init__(self, session: Session, kinds: Iterable[str] | None, after: int | None) -> None:
        """Subscribe to nothing yet.

        Args:
            session: a session for this subscription only.
            kinds: the kinds of events; None means all.
            after: first replay the available events after this number; None replays none.
        """
        if isinstance(kinds, str) or not isinstance(kinds, Iterable | None):
            raise ArgumentError("kinds are a sequence; write [kind] for a single one")
        self._session = session
        self._kinds = None if kinds is None else tuple(kinds)
        self._last = after
        self._gaps: deque[Event] = deque()

    def begin(self) -> Steps[None]:
        """Connect and subscribe, if the session is not connected.

        Raises:
            McrError: see `Session.request`.
        """
        while not self._session.is_connected:
            is_reconnect = self._session.hello is not None
            hello = yield from self._session.connect()
            if is_reconnect and hello.sequence < (self._last or 0):
                # The numbers started again at 0: this is another daemon.
                self._last = 0
                self._gaps.append(self._gap(None, "the daemon was restarted: events are missing"))
            yield from self._subscribe()

    def next(self, timeout_s: float | None) -> Steps[Event | None]:
        """Wait for the next event; None if none arrives within `timeout_s` seconds.

        Raises:
            McrError: the daemon did not return within the session's time limit, or sent an
                unexpected message.
        """
        deadline = self._session.deadline(timeout_s)
        while True:
            yield from self.begin()
            if self._gaps:
                return self._gaps.popleft()
            message = yield from self._session.listen(deadline)
            if message is not None:
                if message.method == "event":
                    return self._event(message)
            elif self._session.is_connected:
                return None
            else:
                yield Pause(RETRY_S)

    def _subscribe(self) -> Steps[None]:
        position = yield from self._session.request(methods.subscribe(self._kinds, self._last))
        if self._last is None:
            self._last = position.sequence
        elif position.missed:
            text = f"{position.missed} events are no longer available"
            self._gaps.append(self._gap(position.missed, text))

    def _event(self, message: Notification) -> Event:
        try:
            event = Event.from_dict(message.params)
        except JsonError as error:
            raise DaemonError(f"the daemon sent a malformed event: {error}") from None
        self._last = event.sequence
        return event

    def _gap(self, missed: int | None, text: str) -> Event:
        """The event that reports the missed events after the last one received."""
        self._last = (self._last or 0) + (missed or 0)
        return Event(self._last, time.time(), "gap", "gap", text, {"missed": missed})
