"""How a client follows the daemon's events: what was heard last, and what was missed.

Like `session`, on which it builds, it does no input or output.
"""

import time
from collections import deque
from collections.abc import Iterable

from ..errors import DaemonError
from ..json_codec import JsonError
from ..protocol.results import Event
from . import methods
from .jsonrpc import Notification
from .session import RETRY_S, Pause, Session, Steps


class EventCursor:
    """One subscription, over all the connections that it takes."""

    def __init__(self, session: Session, kinds: Iterable[str] | None, after: int | None) -> None:
        """Nothing is asked yet.

        Args:
            session: a connection of its own.
            kinds: what to hear of; None hears everything.
            after: the number of the last event that is known; None begins with what comes.
        """
        if isinstance(kinds, str):
            raise TypeError("kinds are a sequence; write [kind] for a single one")
        self._session = session
        self._kinds = None if kinds is None else tuple(kinds)
        self._last = after
        self._gaps: deque[Event] = deque()

    def begin(self) -> Steps[None]:
        """Subscribe, if there is no subscription.

        Raises:
            McrError: as for any request.
        """
        while not self._session.is_connected:
            returning = self._session.hello is not None
            hello = yield from self._session.connect()
            if returning and hello.sequence < (self._last or 0):
                # Its numbers began anew: this is not the daemon that there was.
                self._last = 0
                self._gaps.append(self._gap(None, "the daemon was started anew: events are missed"))
            yield from self._subscribe()

    def next(self, timeout_s: float | None) -> Steps[Event | None]:
        """Wait for the next event; None if the time passes.

        Raises:
            McrError: the daemon did not come back in the session's time, or answered what it
                never should.
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
        stream = yield from self._session.request(methods.subscribe(self._kinds, self._last))
        if self._last is None:
            self._last = stream.sequence
        elif stream.missed:
            text = f"{stream.missed} events are kept no longer"
            self._gaps.append(self._gap(stream.missed, text))

    def _event(self, message: Notification) -> Event:
        try:
            event = Event.from_dict(message.params)
        except JsonError as error:
            raise DaemonError(f"the daemon sent a malformed event: {error}") from None
        self._last = event.sequence
        return event

    def _gap(self, missed: int | None, text: str) -> Event:
        """The event that stands for those that were missed, which follow what was heard last."""
        self._last = (self._last or 0) + (missed or 0)
        return Event(self._last, time.time(), "gap", "gap", text, {"missed": missed})
