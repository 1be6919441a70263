"""The log of control: to standard error for people, to the stream of events for programs.

Owns the log levels, and the limits that keep clients and workers from filling the log, by repeats
of one line or by ever new ones. A stuck reader of standard error delays nothing: lines wait in a
queue of limited size, from which a thread writes them.
"""

import logging
import logging.handlers
import os
import queue
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from ...choices import FACILITIES, Facility, Level, LogFormat
from ...log_levels import NUMBERS, level_of, logger_of
from ...protocol.log_spec import LogSpec
from ...protocol.results import LogLevels
from ...protocol.text import printable
from ..log_format import LineFormat, choose_format
from .api.errors import cut

_QUEUED_RECORDS = 1000
_REMEMBERED_LINES = 512
_REPEAT_S = 1.0
LINES_A_SECOND = 20
"""The rate of lines in the long run: some 2 KiB per second."""
LINES_AT_ONCE = 1000
"""The most lines in a burst."""

Clock = Callable[[], float]
Publish = Callable[[Level, Facility, str], None]


class PlainText(logging.Filter):
    """Replaces a record's message by one printable line of limited length."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Accept every record."""
        _set_text(record, printable(cut(record.getMessage())))
        return True


class RepeatLimit(logging.Filter):
    """Accepts a message once per second, with the number of repeats that it has refused."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """Measure time by this clock, in seconds."""
        super().__init__()
        self._clock = clock
        self._repeats: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the message was not accepted within the last second."""
        text, now_s = record.getMessage(), self._clock()
        accepted_s, refused = self._repeats.pop(text, (-_REPEAT_S, 0))
        if now_s - accepted_s < _REPEAT_S:
            self._repeats[text] = (accepted_s, refused + 1)
            return False
        self._repeats[text] = (now_s, 0)
        if len(self._repeats) > _REMEMBERED_LINES:
            self._repeats.popitem(last=False)
        if refused:
            _set_text(record, f"{text} (repeated {refused} times before)")
        return True


class RateLimit(logging.Filter):
    """Accepts a burst of messages, then a steady rate, with the number that it has refused."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """Start with a full burst; measure time by this clock, in seconds."""
        super().__init__()
        self._clock = clock
        self._room = float(LINES_AT_ONCE)
        self._at_s = clock()
        self._refused = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the rate permits one more message."""
        now_s = self._clock()
        earned = (now_s - self._at_s) * LINES_A_SECOND
        self._room, self._at_s = min(self._room + earned, LINES_AT_ONCE), now_s
        if self._room < 1:
            self._refused += 1
            return False
        self._room -= 1
        if self._refused:
            _set_text(record, f"{record.getMessage()} ({self._refused} lines before it omitted)")
            self._refused = 0
        return True


def default_levels(text: str = "info") -> LogLevels:
    """The levels that a text has, such as `info,rules=debug` (`LogSpec`)."""
    wanted = LogSpec.parse(text)
    return LogLevels(wanted.level, {name: wanted.facilities.get(name) for name in FACILITIES})


class ControlLog(logging.handlers.QueueHandler):
    """The handler of all records of this process."""

    def __init__(
        self, publish: Publish, levels: str = "info", log_format: LogFormat = "auto"
    ) -> None:
        """Limit the records; call `publish` with each, in the thread that logs it."""
        self._records: queue.Queue[logging.LogRecord] = queue.Queue(_QUEUED_RECORDS)
        super().__init__(self._records)
        self.levels = default_levels(levels)
        self._publish = publish
        self._dropped = 0
        self._lines = _LineFormatter(choose_format(log_format, sys.stderr.fileno()))
        self.setFormatter(self._lines)
        for each in (PlainText(), RepeatLimit(), RateLimit()):
            self.addFilter(each)

    def install(self) -> None:
        """Handle the records of this package from now on, and start the thread that writes."""
        root = logging.getLogger("mcr")
        root.addHandler(self)
        root.propagate = False
        self.set_levels(self.levels)
        _Writer(self.queue).start()

    def set_levels(self, levels: LogLevels) -> None:
        """Log from these levels on."""
        self.levels = levels
        logging.getLogger("mcr").setLevel(NUMBERS[levels.level])
        for facility in FACILITIES:
            own = levels.facilities[facility]
            logger_of(facility).setLevel(NUMBERS[own] if own else logging.NOTSET)

    def with_level(self, level: Level | None, facility: Facility | None) -> LogLevels:
        """The levels with one of them set; a facility without one follows the others."""
        if facility is None:
            return replace(self.levels, level=level or "info")
        return replace(self.levels, facilities={**self.levels.facilities, facility: level})

    def levels_of(self, *facilities: Facility) -> dict[Facility, str]:
        """The level that each of these has."""
        return {each: self.levels.facilities[each] or self.levels.level for each in facilities}

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record for standard error, and publish it."""
        super().emit(record)
        self._publish(level_of(record), _facility(record), record.getMessage())

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record, or drop it if the queue is full; the next one says how many were."""
        if self._dropped:
            text = f"dropped {self._dropped} records, as nothing read standard error"
            record.msg = self._lines.line(record.created, "warning", "control", text) + record.msg
        try:
            self._records.put_nowait(record)
        except queue.Full:
            self._dropped += 1
        else:
            self._dropped = 0

    def say(self, text: str) -> None:
        """Write lines to standard error only, whatever the level is."""
        now_s = time.time()
        lines = (self._lines.line(now_s, "info", None, each) for each in text.splitlines())
        self.enqueue(logging.makeLogRecord({"msg": "".join(lines)}))

    def flush_to_stderr(self, within_s: float) -> None:
        """Wait until the queued lines are written, at most for so long."""
        ends_s = time.monotonic() + within_s
        while self._records.unfinished_tasks and time.monotonic() < ends_s:
            time.sleep(0.005)


class _LineFormatter(logging.Formatter):
    """Formats a record as lines, one for its message and one for each line of a traceback."""

    def __init__(self, line_format: LineFormat) -> None:
        super().__init__()
        self._line_format = line_format

    def format(self, record: logging.LogRecord) -> str:
        texts = [record.getMessage()]
        if record.exc_info:
            texts += self.formatException(record.exc_info).splitlines()
        level, facility = level_of(record), _facility(record)
        return "".join(self.line(record.created, level, facility, text) for text in texts)

    def line(self, unix_s: float, level: Level, facility: Facility | None, text: str) -> str:
        return f"{self._line_format(unix_s, level, facility, text)}\n"


class _Writer(logging.handlers.QueueListener):
    """Writes queued records to standard error, in a thread of its own.

    It uses no handler: `logging.shutdown` would wait at exit for the lock of one that is stuck.
    """

    def handle(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):  # without a reader there is nothing to do
            os.write(sys.stderr.fileno(), record.msg.encode(errors="backslashreplace"))


def _facility(record: logging.LogRecord) -> Facility:
    return record.name.rpartition(".")[2]  # type: ignore[return-value]


def _set_text(record: logging.LogRecord, text: str) -> None:
    record.msg, record.args = text, None
