"""The log: to standard error for people, to the stream of events for programs.

Owns levels, for everything and for each facility, and that nobody can fill the log: neither with
the same line again and again, nor with ever new ones. A log that nobody reads, such as a full pipe,
holds nothing up.
"""

import logging
import os
import queue
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from ...protocol.constants import FACILITIES, LEVELS, Facility, Level
from ...protocol.results import LogLevels
from ..journal import leads_to_journal, priority
from .api.errors import cut

_QUEUED_LINES = 1000
_REMEMBERED_LINES = 512
_AGAIN_AFTER_S = 1.0
LINES_A_SECOND = 20
"""That are logged when it goes on for long: some 2 KiB."""
LINES_AT_ONCE = 1000
"""That are logged without a pause between them."""

Tell = Callable[[Level, Facility, str], None]


class Repeats:
    """Lets the same line through once a second, and says then how often it was left out."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self._said: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def pass_on(self, text: str, now_s: float) -> str | None:
        """The line, with how many like it were left out; None to leave it out."""
        said_s, left_out = self._said.pop(text, (None, 0))
        if said_s is not None and now_s - said_s < _AGAIN_AFTER_S:
            self._said[text] = (said_s, left_out + 1)
            return None
        self._said[text] = (now_s, 0)
        if len(self._said) > _REMEMBERED_LINES:
            self._said.popitem(last=False)
        return f"{text} ({left_out} more like it)" if left_out else text


class Pace:
    """Lets so many lines through at once, then so many a second, and says how many it left out."""

    def __init__(self, now_s: float) -> None:
        """Begin with all that may come at once."""
        self._room = float(LINES_AT_ONCE)
        self._at_s = now_s
        self._left_out = 0

    def pass_on(self, text: str, now_s: float) -> str | None:
        """The line, with how many before it were left out; None to leave it out."""
        earned = (now_s - self._at_s) * LINES_A_SECOND
        self._room, self._at_s = min(self._room + earned, LINES_AT_ONCE), now_s
        if self._room < 1:
            self._left_out += 1
            return None
        self._room -= 1
        left_out, self._left_out = self._left_out, 0
        return f"{text} ({left_out} lines before it were left out)" if left_out else text


def default_levels(level: str = "info") -> LogLevels:
    """This level for all facilities."""
    return LogLevels(level, dict.fromkeys(FACILITIES))


def printable(text: str) -> str:
    """One line that does nothing to a terminal: what others have named may hold anything."""
    if text.isprintable():
        return text
    escaped = (each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return "".join(escaped)


class Log(logging.Handler):
    """Where everything goes that this process logs."""

    def __init__(self, tell: Tell) -> None:
        """Take what tells a line to subscribers; lines come from the event loop's thread."""
        super().__init__()
        self.levels = default_levels()
        self._tell = tell
        self._repeats = Repeats()
        self._pace = Pace(time.monotonic())
        self._lines: queue.Queue[str] = queue.Queue(_QUEUED_LINES)
        self._journal = leads_to_journal(sys.stderr.fileno())

    def install(self) -> None:
        """Take all that this package logs, from now on."""
        root = logging.getLogger("mcr")
        root.addHandler(self)
        root.propagate = False
        self.set_levels(self.levels)
        threading.Thread(target=self._write, name="mcr-log", daemon=True).start()

    def set_levels(self, levels: LogLevels) -> None:
        """Log from these levels on."""
        self.levels = levels
        logging.getLogger("mcr").setLevel(levels.level.upper())
        for facility in FACILITIES:
            own = levels.facilities[facility]
            logging.getLogger(f"mcr.{facility}").setLevel(own.upper() if own else logging.NOTSET)

    def with_level(self, level: Level | None, facility: Facility | None) -> LogLevels:
        """The levels with one of them set; a facility without one follows the others."""
        if facility is None:
            return replace(self.levels, level=level or "info")
        return replace(self.levels, facilities={**self.levels.facilities, facility: level})

    def level_of(self, *facilities: Facility) -> str:
        """The most talkative level that one of these has."""
        levels = (self.levels.facilities[each] or self.levels.level for each in facilities)
        return min(levels, key=LEVELS.index)

    def emit(self, record: logging.LogRecord) -> None:
        """Logging: take a line."""
        facility = record.name.rpartition(".")[2]
        level = record.levelname.lower()
        now_s = time.monotonic()
        text = self._repeats.pass_on(printable(cut(record.getMessage())), now_s)
        text = None if text is None else self._pace.pass_on(text, now_s)
        if text is None:
            return
        self._put(level, f"{facility}: {text}")
        if record.exc_info:
            formatted = logging.Formatter().formatException(record.exc_info)
            for line in formatted.splitlines():
                self._put(level, line)
        self._tell(level, facility, text)  # type: ignore[arg-type]

    def say(self, text: str) -> None:
        """Write lines that are for people only, whatever the level is."""
        with suppress(queue.Full):  # whoever should read them does not
            self._lines.put_nowait(f"{text}\n")

    def flush_to_stderr(self, within_s: float) -> None:
        """Wait until the lines so far are written, or the time is over."""
        ends_s = time.monotonic() + within_s
        while self._lines.unfinished_tasks and time.monotonic() < ends_s:
            time.sleep(0.005)

    def _put(self, level: str, line: str) -> None:
        head = priority(level) if self._journal else f"{level}: "
        self.say(f"{head}{line}")

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            with suppress(OSError, ValueError):  # nobody is there to be told
                os.write(sys.stderr.fileno(), line.encode(errors="backslashreplace"))
            self._lines.task_done()
