"""The lines of the daemon's log: plain, with the time, as JSON, or with priorities for the journal.

Control and the supervisor write to the same standard error, so both format their lines here.
"""

import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from ..choices import Facility, Level, LogFormat
from ..protocol.text import printable

PRIORITIES: Mapping[Level, int] = {
    "emergency": 0,
    "alert": 1,
    "critical": 2,
    "error": 3,
    "warning": 4,
    "notice": 5,
    "info": 6,
    "debug": 7,
    "trace": 7,
}
"""The priorities of syslog(3), which has nothing below debug."""
_JSON_CHARS = 850
"""The longest message in JSON: with 4 bytes a character, a line stays below PIPE_BUF (4096)."""

RecordFields = Mapping[str, object]
"""What a record is about: the members of `RECORD_FIELDS` that are known, with their values."""
RECORD_FIELDS: Mapping[str, str] = {
    "rule": "MCR_RULE",
    "rule_name": "MCR_RULE_NAME",
    "worker": "MCR_WORKER",
}
"""The members of records beside their text, in JSON, and the names of these fields in the journal:
the id of a rule, its name, and the number of a worker."""

LineFormat = Callable[[float, Level, Facility | None, str, RecordFields], str]
"""Makes a line without its line feed of a Unix time in seconds, a level, a facility, a text and
fields, which only JSON has room for.

A line without a facility is not a log record, such as the final report.
"""


def choose_format(
    name: LogFormat, descriptor: int, environment: Mapping[str, str] = os.environ
) -> LineFormat:
    """Return the format of this name; `auto` depends on where the descriptor leads."""
    if name == "auto":
        return _journal if leads_to_journal(descriptor, environment) else _plain
    return {"text": _timed, "json": _json, "journal": _journal}[name]


def leads_to_journal(descriptor: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the journal reads the lines written to a descriptor (systemd.exec(5)).

    JOURNAL_STREAM has the device and inode of the standard error that systemd created. A process
    whose standard error was redirected to a file inherits the variable, but the file must not get
    priorities.
    """
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _plain(
    _: float, level: Level, facility: Facility | None, text: str, _fields: RecordFields
) -> str:
    return printable(text if facility is None else f"{level}: {facility}: {text}")


def _timed(
    unix_s: float, level: Level, facility: Facility | None, text: str, fields: RecordFields
) -> str:
    return f"{_rfc3339(unix_s)} {_plain(unix_s, level, facility, text, fields)}"


def _journal(
    _: float, level: Level, facility: Facility | None, text: str, _fields: RecordFields
) -> str:
    """A line with its priority (sd-daemon(3)), which the journal turns into PRIORITY=."""
    return f"<{PRIORITIES[level]}>{printable(text if facility is None else f'{facility}: {text}')}"


def _json(
    unix_s: float, level: Level, facility: Facility | None, text: str, fields: RecordFields
) -> str:
    members: dict[str, object] = {"time": _rfc3339(unix_s), "level": level, "pid": os.getpid()}
    if facility is not None:
        members["facility"] = facility
    members |= {name: fields[name] for name in RECORD_FIELDS if fields.get(name) is not None}
    members["message"] = printable(text)[:_JSON_CHARS]
    return json.dumps(members, ensure_ascii=False)


def _rfc3339(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")
