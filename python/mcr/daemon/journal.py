"""The systemd journal: whether standard error leads there, and the priority prefix of its lines."""

import os
from collections.abc import Mapping

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}  # syslog(3)


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


def priority(level: str) -> str:
    """The prefix of a line of this level in the journal (sd-daemon(3))."""
    return f"<{_PRIORITIES[level]}>"
