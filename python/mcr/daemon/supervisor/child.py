"""A child process: start, kill, reap, and the cause of its end as a short phrase.

Owns the process and its pidfd. A child inherits only the given descriptors. It has its own process
group, so that Ctrl-C in a terminal reaches the supervisor alone.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from .service_manager import VARIABLES


class Child:
    """A child of this process."""

    def __init__(self, command: Sequence[str], descriptors: Sequence[int]) -> None:
        """Start the process.

        Args:
            command: the program and its arguments.
            descriptors: inherited under the same numbers, beside standard output and error.

        Raises:
            OSError: the kernel refuses: no memory, too many processes, or no such program.
        """
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=descriptors,
            process_group=0,
            cwd="/",
            env=_environment(os.environ),
        )
        self._kill_reason: str | None = None
        self.exit_code: int | None = None
        """The exit code; None while the process runs, and if a signal killed it."""
        try:
            self.pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self._process.kill()
            self._process.wait()
            raise

    @property
    def pid(self) -> int:
        """The process id; the kernel does not reuse it before `reap` has returned a cause."""
        return self._process.pid

    def kill(self, reason: str | None = None) -> None:
        """Kill the process (SIGKILL).

        Args:
            reason: the cause that `reap` returns, if the process dies of this signal; the first
                reason counts.
        """
        self._kill_reason = self._kill_reason or reason
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> str | None:
        """Reap the process if it has ended; return the cause, or None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        self.exit_code = code if code >= 0 else None
        if code == -signal.SIGKILL and self._kill_reason is not None:
            return self._kill_reason
        return cause_of(code)

    def close(self) -> None:
        """Close the pidfd; call this when the process was reaped and the pidfd is not watched."""
        os.close(self.pidfd)


def cause_of(code: int) -> str:
    """Describe how a process ended; a negative code is the signal, as in `subprocess`."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"killed by signal {-code}"


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in own.items() if name not in VARIABLES}
