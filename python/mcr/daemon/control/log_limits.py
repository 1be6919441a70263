"""The limits that keep clients and workers from filling the log, by repeats or by new messages.

Each is a filter that refuses records, and reports how many.
"""

import logging
import time
from collections.abc import Callable, Iterator

from ...protocol.text import printable
from ...repeats import RepeatCounter, with_repeats
from .api.errors import cut

LINES_A_SECOND = 20
"""The rate of lines in the long run: some 2 KiB per second."""
LINES_AT_ONCE = 1000
"""The most lines in a burst."""

Clock = Callable[[], float]


class PlainText(logging.Filter):
    """Replaces a record's message by one printable line of limited length."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Accept every record."""
        _set_text(record, printable(cut(record.getMessage())))
        return True


class RepeatLimit(logging.Filter):
    """Accepts a message once a second, and reports how many repeats it has refused.

    Messages are the same if facility, severity and text are, or in place of the text the attribute
    `key` of their records.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """Measure time by this clock, in seconds."""
        super().__init__()
        self._repeats = RepeatCounter[logging.LogRecord](clock)

    def __len__(self) -> int:
        """The number of messages of which repeats are recognized now."""
        return len(self._repeats)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the message was not accepted within the last second."""
        if is_periodic(record):
            return True
        text = record.getMessage()
        key = record.name, record.levelno, getattr(record, "key", text)
        suppressed = self._repeats.accept(key, lambda: _copy(record, text))
        if suppressed:
            _set_text(record, with_repeats(text, suppressed))
        return suppressed is not None

    def due(self, *, at_once: bool = False) -> Iterator[logging.LogRecord]:
        """Yield a record for each message whose second is over and had repeats.

        Args:
            at_once: also for those whose second is not over.
        """
        for record, suppressed in self._repeats.due(at_once=at_once):
            yield _copy(record, with_repeats(record.getMessage(), suppressed))
        if forgotten := self._repeats.take_forgotten():
            yield _record(with_repeats("other messages", forgotten))


class RateLimit(logging.Filter):
    """Accepts a burst of messages, then a steady rate, and reports how many it has refused."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """Start with a full burst; measure time by this clock, in seconds."""
        super().__init__()
        self._clock = clock
        self._room = float(LINES_AT_ONCE)
        self._at_s = clock()
        self._refused = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the rate permits one more message."""
        if is_periodic(record):
            return True
        if not self._take():
            self._refused += 1
            return False
        if self._refused:
            refused, self._refused = self._refused, 0
            _set_text(record, f"{record.getMessage()} (other messages: {refused} suppressed)")
        return True

    def due(self) -> Iterator[logging.LogRecord]:
        """Yield a record about those refused, if the rate permits it."""
        if self._refused and self._take():
            refused, self._refused = self._refused, 0
            yield _record(with_repeats("other messages", refused))

    def _take(self) -> bool:
        now_s = self._clock()
        earned = (now_s - self._at_s) * LINES_A_SECOND
        self._room, self._at_s = min(self._room + earned, LINES_AT_ONCE), now_s
        if self._room < 1:
            return False
        self._room -= 1
        return True


def is_periodic(record: logging.LogRecord) -> bool:
    """Whether a record repeats at an interval by the user's wish, and needs no limit."""
    return getattr(record, "is_periodic", False)


def _record(text: str) -> logging.LogRecord:
    return logging.LogRecord("mcr.control", logging.WARNING, __file__, 0, text, None, None)


def _copy(record: logging.LogRecord, text: str) -> logging.LogRecord:
    made = logging.makeLogRecord(record.__dict__ | {"exc_info": None, "exc_text": None})
    made.created = time.time()
    _set_text(made, text)
    return made


def _set_text(record: logging.LogRecord, text: str) -> None:
    record.msg, record.args = text, None
