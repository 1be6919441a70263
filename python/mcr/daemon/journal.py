"""Lines for the journal of systemd: whether standard error leads there, and what each begins with.

Owns no line. Knows neither who writes nor what.
"""

import os
from collections.abc import Mapping

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}  # syslog(3)


def leads_to_journal(descriptor: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether what is written to a descriptor is read by the journal (systemd.exec(5)).

    JOURNAL_STREAM names the device and the inode of what systemd had made standard error: whoever
    has redirected it since inherits the variable, and wants no priorities in a file.
    """
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def priority(level: str) -> str:
    """What a line of this level begins with in the journal (sd-daemon(3))."""
    return f"<{_PRIORITIES[level]}>"
