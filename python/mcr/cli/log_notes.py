"""Log records of this process as notes of a view: collected in any thread, shown by one."""

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from ..log_levels import NUMBERS
from ..protocol.log_spec import LogSpec
from ..protocol.text import printable
from .output import moment

_WAITING_RECORDS = 1000


class LogNotes(logging.Handler):
    """Keeps the last records until they are shown."""

    def __init__(self) -> None:
        """Have no records yet."""
        super().__init__()
        self._waiting: deque[logging.LogRecord] = deque(maxlen=_WAITING_RECORDS)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record; one too many replaces the oldest."""
        self._waiting.append(record)

    def forget(self) -> None:
        """Forget the waiting records."""
        self._waiting.clear()

    def take(self) -> Iterator[str]:
        """Yield the waiting records as lines, and forget them."""
        while self._waiting:
            record = self._waiting.popleft()
            level = "warning: " if record.levelno >= NUMBERS["warning"] else ""
            is_event = getattr(record, "is_event", False)  # whose sentence says what is wrong
            text = printable(record.getMessage())
            yield f"{moment(record.created)} {'' if is_event else level}{text}"


@contextmanager
def noted_log(levels: LogSpec) -> Iterator[LogNotes]:
    """Collect the records of this package during the block, from these levels on."""
    package, notes = logging.getLogger("mcr"), LogNotes()
    notes.addFilter(lambda record: record.levelno >= _threshold(levels, record))
    before = package.level
    package.setLevel(min(NUMBERS[each] for each in (levels.level, *levels.facilities.values())))
    package.addHandler(notes)
    try:
        yield notes
    finally:
        package.removeHandler(notes)
        package.setLevel(before)


def _threshold(levels: LogSpec, record: logging.LogRecord) -> int:
    facility = record.name.rpartition(".")[2]
    return NUMBERS[levels.facilities.get(facility, levels.level)]  # type: ignore[call-overload]
