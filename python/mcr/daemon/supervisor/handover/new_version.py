"""Starts the installed version to take this daemon over, as SIGUSR2 requests.

It inherits the control group, the namespaces and the environment of this one. So it belongs to the
same service, which a version that is started elsewhere does not.
"""

import os
import subprocess
from collections.abc import Sequence
from typing import Protocol

from ....choices import Level
from ..child import cause_of
from ..reactor import Reactor

_OPTION = "--takeover"


class StartLog(Protocol):
    """The method of `Supervisor` that a start calls."""

    def log(self, level: Level, text: str) -> None:
        """Log a record."""


class NewVersion:
    """The process of the version that was started last, until it has ended."""

    def __init__(self, command: Sequence[str], reactor: Reactor, supervisor: StartLog) -> None:
        """Start nothing yet.

        Args:
            command: the one that started this daemon.
            reactor: watches the process.
            supervisor: logs.
        """
        # One that has taken over itself was started with the option.
        self._command = [*(word for word in command if word != _OPTION), _OPTION]
        self._reactor, self._supervisor = reactor, supervisor
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1

    @property
    def pid(self) -> int | None:
        """The id of the process, while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the command anew, with the option to take over, unless it runs already."""
        if self._process is not None:
            self._supervisor.log("warning", f"process {self._process.pid} is still taking over")
            return
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                process_group=0,
                # The watchdog of the service manager counts for whichever process is the main one.
                env={name: value for name, value in os.environ.items() if name != "WATCHDOG_PID"},
            )
        except OSError as error:
            text = f"no new version was started: {self._command[0]}: {error.strerror}"
            self._supervisor.log("error", text)
            return
        self._supervisor.log("info", f"process {self._process.pid} starts to take over")
        self._pidfd = os.pidfd_open(self._process.pid)
        self._reactor.watch(self._pidfd, self._reap)

    def close(self) -> None:
        """Leave the process to itself."""
        if self._process is not None:
            self._reactor.forget(self._pidfd)
            os.close(self._pidfd)
            self._process = None

    def _reap(self) -> None:
        process = self._process
        if process is None or (code := process.poll()) is None:
            return
        self.close()
        self._supervisor.log("error", f"process {process.pid} has not taken over: {cause_of(code)}")
