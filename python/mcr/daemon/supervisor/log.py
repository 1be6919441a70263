"""The supervisor's own log lines on standard error, and its notices to the service manager.

Nobody need read it: a pipe that is full costs the line, never the daemon's time. Knows no
processes and no rules.
"""

import os
import select
import socket
from collections.abc import Mapping
from contextlib import suppress

from ...protocol.constants import LEVELS
from ..journal import leads_to_journal, priority

_LINE_BYTES = 4096  # PIPE_BUF: so much is taken whole where poll(2) says that there is room


class StderrLog:
    """Lines on standard error."""

    def __init__(
        self, level: str, target: int = 2, environment: Mapping[str, str] = os.environ
    ) -> None:
        """Say what is at least as grave as the level.

        Args:
            level: one of `LEVELS`.
            target: the descriptor of standard error.
            environment: where systemd says by JOURNAL_STREAM that lines go to the journal; they
                begin with their priority there (sd-daemon(3)).
        """
        self._from = LEVELS.index(level)
        self._target = target
        self._journal = leads_to_journal(target, environment)
        self._missed = 0

    def log(self, level: str, text: str) -> None:
        """Say what happened, if it is grave enough, as control writes its log."""
        if LEVELS.index(level) >= self._from:
            head = "" if self._journal else f"{level}: "
            self.say(f"{head}supervisor: {text}", level)

    def say(self, text: str, level: str = "info") -> None:
        """Say it whatever the level is."""
        if not self._room():
            self._missed += 1
            return
        if self._missed:
            text = f"{text} (nobody read {self._missed} lines before)"
            self._missed = 0
        prefix = priority(level) if self._journal else ""
        line = f"{prefix}{text}".encode("utf-8", "replace")[: _LINE_BYTES - 1]
        try:
            os.write(self._target, line.replace(b"\n", b" ") + b"\n")
        except OSError:
            self._missed += 1  # a pipe without a reader, a full disk: there is no one to tell

    def _room(self) -> bool:
        poll = select.poll()
        poll.register(self._target, select.POLLOUT)
        return any(event & select.POLLOUT for _, event in poll.poll(0))


def sd_notify(text: str, environment: Mapping[str, str] = os.environ) -> None:
    """Tell systemd about the daemon, if it asks for that (sd_notify(3)); never wait for it.

    Args:
        text: such as READY=1 or STOPPING=1.
        environment: where NOTIFY_SOCKET names its socket; a leading @ means an abstract one.
    """
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # A manager that cannot be told finds out by its own time limit.
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as messenger,
    ):
        messenger.sendto(text.encode(), address)
