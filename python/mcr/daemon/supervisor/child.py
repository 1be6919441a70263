"""One child process: started, killed, reaped, and why it ended as one short sentence.

Owns the process and its pidfd. A child gets the descriptors that it is given and no other, and a
process group of its own, so that Ctrl-C in a terminal reaches the supervisor alone. Knows neither
what the child is for nor when to start it again.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

_NOT_FOR_CHILDREN = "NOTIFY_SOCKET"  # only the supervisor may tell the service manager anything


class Child:
    """A running process that this one has started."""

    def __init__(self, command: Sequence[str], descriptors: Sequence[int]) -> None:
        """Start it.

        Args:
            command: the program and its arguments.
            descriptors: what it keeps, under the same numbers, beside standard output and error.

        Raises:
            OSError: the kernel refused: no memory, too many processes, or no such program.
        """
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=descriptors,
            process_group=0,
            cwd="/",
            env=_environment(os.environ),
        )
        self._reason: str | None = None
        self.exit_code: int | None = None
        """How it has ended by itself; None while it runs, and for one that was killed."""
        try:
            self.pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self._process.kill()
            self._process.wait()
            raise

    @property
    def pid(self) -> int:
        """The process id; nobody else has it before `reap` has told the cause."""
        return self._process.pid

    def kill(self, reason: str | None = None) -> None:
        """Kill it at once (SIGKILL); a reason becomes the cause, if it really dies by this."""
        self._reason = self._reason or reason
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> str | None:
        """Return why it ended, or None while it runs; nothing is left of it in the kernel then."""
        code = self._process.poll()
        if code is None:
            return None
        self.exit_code = code if code >= 0 else None
        if code == -signal.SIGKILL and self._reason is not None:
            return self._reason
        return cause_of(code)

    def close(self) -> None:
        """Close the pidfd; call it when the process was reaped and nobody watches any more."""
        os.close(self.pidfd)


def cause_of(code: int) -> str:
    """Say how a process ended; a negative code is the signal, as `subprocess` has it."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"killed by signal {-code}"


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in own.items() if name != _NOT_FOR_CHILDREN}
