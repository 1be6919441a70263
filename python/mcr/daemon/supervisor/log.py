"""The supervisor's log on standard error.

Writing never blocks: if standard error is a full pipe, the line is dropped and counted. The same
record is written once a second, and its repeats are counted.
"""

import os
import select
import time
from collections.abc import Mapping

from ...choices import LEVELS, Facility, Level, LogFormat
from ...protocol.log_spec import LogSpec
from ...protocol.text import printable
from ...repeats import RepeatCounter, with_repeats
from ..journal import Journal
from ..log_format import choose_format

_LINE_BYTES = 4096  # PIPE_BUF: written in one piece where poll(2) reports POLLOUT (pipe(7))


class StderrLog:
    """Lines on standard error."""

    def __init__(
        self,
        levels: LogSpec,
        target: int = 2,
        environment: Mapping[str, str] = os.environ,
        log_format: LogFormat = "auto",
        journal: Journal | None = None,
    ) -> None:
        """Log records of these severities and above.

        Args:
            levels: the severities.
            target: the descriptor of standard error.
            environment: contains JOURNAL_STREAM where standard error goes to the journal.
            log_format: how lines are written.
            journal: gets entries in place of lines.
        """
        self._levels = levels
        self._target = target
        self._format = choose_format(log_format, target, environment)
        self._journal = journal
        self._dropped = 0
        self._repeats = RepeatCounter[tuple[Level, Facility, str]]()

    def log(self, level: Level, text: str, facility: Facility = "supervisor") -> None:
        """Write a log record, if its level is high enough, in the format of control's log."""
        if LEVELS.index(level) < LEVELS.index(self._levels.level_of(facility)):
            return
        record = level, facility, text
        suppressed = self._repeats.accept(record, lambda: record)
        if suppressed is not None:
            self._write(level, facility, with_repeats(text, suppressed))

    def report_suppressed(self, *, at_once: bool = False) -> None:
        """Write how many records were suppressed in the seconds that are over.

        Args:
            at_once: also in those that are not over, before the process ends.
        """
        for (level, facility, text), suppressed in self._repeats.due(at_once=at_once):
            self._write(level, facility, with_repeats(text, suppressed))
        if forgotten := self._repeats.take_forgotten():
            self._write("warning", "supervisor", with_repeats("other messages", forgotten))

    def write(self, text: str) -> None:
        """Write a line that is no record, regardless of the log level."""
        self._write("info", None, text)

    def write_to_terminal(self, text: str) -> None:
        """Write a line that is no record, for a user who waits at a terminal."""
        if os.isatty(self._target):
            self._write("info", None, text)

    def _write(self, level: Level, facility: Facility | None, text: str) -> None:
        text = text.replace("\n", " ")
        if self._journal is not None and self._journal.send(level, facility, printable(text)):
            return
        if not self._is_writable():
            self._dropped += 1
            return
        if self._dropped:
            text = f"{text} ({self._dropped} earlier lines dropped)"
            self._dropped = 0
        line = self._format(time.time(), level, facility, text, {})
        content = line.encode("utf-8", "replace")[: _LINE_BYTES - 1]
        try:
            os.write(self._target, content + b"\n")
        except OSError:
            self._dropped += 1  # a pipe without a reader, or a full disk

    def _is_writable(self) -> bool:
        poll = select.poll()
        poll.register(self._target, select.POLLOUT)
        return any(event & select.POLLOUT for _, event in poll.poll(0))
