"""Records with fields for systemd's journal, in the datagrams of its native protocol.

The protocol is documented (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): a datagram is an entry of
`NAME=value` lines; a value of several lines has its length before it.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from ..choices import Facility, Level, LogFormat
from .log_format import PRIORITIES, leads_to_journal

SOCKET = Path("/run/systemd/journal/socket")
"""Where the journal receives entries (systemd-journald.service(8))."""
_DAEMON = 3  # LOG_DAEMON of syslog(3)
_LENGTH_BYTES = 8


class Journal:
    """A connection to the journal."""

    def __init__(self, connected: socket.socket) -> None:
        """Take over a connected datagram socket."""
        self._socket = connected

    @classmethod
    def connect(
        cls,
        log_format: LogFormat,
        descriptor: int,
        environment: Mapping[str, str] = os.environ,
        path: Path = SOCKET,
    ) -> Self | None:
        """Connect to the journal, before rights to do so are given up.

        Args:
            log_format: the format that the user has chosen.
            descriptor: standard error.
            environment: has JOURNAL_STREAM, if the journal reads standard error.
            path: the journal's socket.

        Returns:
            None if the log goes elsewhere, or the journal cannot be reached: lines on standard
            error reach it then, without fields.
        """
        is_wanted = log_format in {"auto", "journal"} and leads_to_journal(descriptor, environment)
        if not is_wanted:
            return None
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            made.connect(str(path))
        except OSError:
            made.close()
            return None
        return cls(made)

    def send(
        self,
        level: Level,
        facility: Facility | None,
        text: str,
        fields: Mapping[str, object] | None = None,
    ) -> bool:
        """Send an entry; return whether the journal has it. Never blocks.

        Args:
            level: becomes PRIORITY, and MCR_LEVEL, which has trace too.
            facility: becomes MCR_FACILITY; None for what is no record.
            text: becomes MESSAGE, behind the facility.
            fields: others; None as a value leaves one out.
        """
        entry: dict[str, object] = {
            "MESSAGE": text if facility is None else f"{facility}: {text}",
            "PRIORITY": PRIORITIES[level],
            "SYSLOG_FACILITY": _DAEMON,
            "SYSLOG_IDENTIFIER": "mcr",
            "MCR_LEVEL": level,
            "MCR_FACILITY": facility,
            **(fields or {}),
        }
        content = b"".join(_line(*each) for each in entry.items() if each[1] is not None)
        try:
            self._socket.send(content, socket.MSG_DONTWAIT)
        except OSError:  # it reads too slowly, or is gone, or the entry is too large
            return False
        return True

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _line(name: str, value: object) -> bytes:
    content = str(value).encode("utf-8", "backslashreplace")
    if b"\n" not in content:
        return b"%s=%s\n" % (name.encode(), content)
    length = len(content).to_bytes(_LENGTH_BYTES, "little")
    return b"%s\n%s%s\n" % (name.encode(), length, content)
