"""The log of control: to standard error for people, to the stream of events for programs.

Owns the log levels. A stuck reader of standard error delays nothing: lines wait in a
queue of limited size, from which a thread writes them.
"""

import logging
import logging.handlers
import os
import queue
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from ...choices import FACILITIES, Facility, Level, LogFormat
from ...log_levels import NUMBERS, level_of, logger_of
from ...protocol.log_spec import LogSpec
from ...protocol.results import LogLevels
from ..journal import Journal
from ..log_format import RECORD_FIELDS, LineFormat, RecordFields, choose_format
from .log_limits import PlainText, RateLimit, RepeatLimit, is_periodic

_QUEUED_RECORDS = 1000

Publish = Callable[[Level, Facility, str], None]


def default_levels(text: str = "info") -> LogLevels:
    """The levels that a text has, such as `info,rules=debug` (`LogSpec`)."""
    wanted = LogSpec.parse(text)
    return LogLevels(wanted.level, {name: wanted.facilities.get(name) for name in FACILITIES})


class ControlLog(logging.handlers.QueueHandler):
    """The handler of all records of this process."""

    def __init__(
        self,
        publish: Publish,
        levels: str = "info",
        log_format: LogFormat = "auto",
        journal: Journal | None = None,
    ) -> None:
        """Limit the records; call `publish` with each, in the thread that logs it.

        Args:
            publish: gets level, facility and text.
            levels: as `LogSpec` has them.
            log_format: how lines are written to standard error.
            journal: gets entries in place of lines.
        """
        self._records: queue.Queue[logging.LogRecord] = queue.Queue(_QUEUED_RECORDS)
        super().__init__(self._records)
        self.levels = default_levels(levels)
        self._publish = publish
        self._journal = journal
        self._dropped = 0
        self._lines = _LineFormatter(choose_format(log_format, sys.stderr.fileno()))
        self.setFormatter(self._lines)
        self._repeats, self._rate = RepeatLimit(), RateLimit()
        for each in (PlainText(), self._repeats, self._rate):
            self.addFilter(each)

    def install(self) -> None:
        """Handle the records of this package from now on, and start the thread that writes."""
        root = logging.getLogger("mcr")
        root.addHandler(self)
        root.propagate = False
        self.set_levels(self.levels)
        _Writer(self._records, self._journal).start()

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

    def report_suppressed(self, *, at_once: bool = False) -> None:
        """Log how many records were suppressed in the seconds that are over.

        Args:
            at_once: also in those that are not over, before the process ends.
        """
        for record in self._repeats.due(at_once=at_once):
            if self._rate.filter(record):
                self.emit(record)
        for record in self._rate.due():
            self.emit(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record for standard error, and publish it."""
        super().emit(record)
        if is_periodic(record):  # would drive all others out of the kept events
            return
        self._publish(level_of(record), _facility(record), record.getMessage())

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record, or drop it if the queue is full; the next one says how many were."""
        if self._dropped:
            text = f"dropped {self._dropped} records, as nothing read standard error"
            line = self._lines.line(record.created, "warning", "control", text, {})
            record.msg = line + record.msg
            record.__dict__["text"] = f"{text}\n{record.__dict__['text']}"
        try:
            self._records.put_nowait(record)
        except queue.Full:
            self._dropped += 1
        else:
            self._dropped = 0

    def say(self, text: str) -> None:
        """Write lines to standard error only, whatever the level is."""
        now_s = time.time()
        lines = (self._lines.line(now_s, "info", None, each, {}) for each in text.splitlines())
        self.enqueue(logging.makeLogRecord({"msg": "".join(lines), "text": text}))

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
        record.__dict__["text"] = "\n".join(texts)
        fields = record.__dict__
        return "".join(self.line(record.created, level, facility, each, fields) for each in texts)

    def line(
        self,
        unix_s: float,
        level: Level,
        facility: Facility | None,
        text: str,
        fields: RecordFields,
    ) -> str:
        return f"{self._line_format(unix_s, level, facility, text, fields)}\n"


class _Writer(logging.handlers.QueueListener):
    """Writes queued records to the journal or standard error, in a thread of its own.

    It uses no handler: `logging.shutdown` would wait at exit for the lock of one that is stuck.
    """

    def __init__(self, records: queue.Queue[logging.LogRecord], journal: Journal | None) -> None:
        super().__init__(records)
        self._journal = journal

    def handle(self, record: logging.LogRecord) -> None:
        if self._journal is not None and _send(self._journal, record):
            return
        with suppress(OSError, ValueError):  # without a reader there is nothing to do
            os.write(sys.stderr.fileno(), record.msg.encode(errors="backslashreplace"))


def _send(journal: Journal, record: logging.LogRecord) -> bool:
    members = record.__dict__
    if not record.name:  # what is no record
        return journal.send("info", None, members["text"])
    fields = {
        "CODE_FILE": record.pathname,
        "CODE_LINE": record.lineno,
        "CODE_FUNC": record.funcName,
        **{field: members.get(name) for name, field in RECORD_FIELDS.items()},
    }
    return journal.send(level_of(record), _facility(record), members["text"], fields)


def _facility(record: logging.LogRecord) -> Facility:
    return record.name.rpartition(".")[2]  # type: ignore[return-value]
