"""A program on a terminal of 80 columns, and what it has written."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from .deadline import wait_until


@dataclass
class Terminal:
    """The process, both ends of its terminal, and what was written."""

    process: subprocess.Popen[bytes]
    ours: int
    theirs: int
    written: bytes = b""

    def read(self) -> None:
        """Take what has been written."""
        while select.select([self.ours], [], [], 0.02)[0]:
            self.written += os.read(self.ours, 65536)

    def echoes(self) -> bool:
        """Whether the terminal shows what is typed."""
        flags: int = termios.tcgetattr(self.theirs)[3]
        return bool(flags & termios.ECHO)

    def wait_for(self, text: bytes) -> None:
        """Wait until this was written."""

        def look() -> bool:
            self.read()
            return text in self.written

        wait_until(look, what=text)

    def ended(self) -> bool:
        """Whether the process has exited; it never waits for the terminal."""
        self.read()
        return self.process.poll() is not None


@contextmanager
def on_terminal(
    command: Sequence[str], ready: bytes, environment: Mapping[str, str]
) -> Iterator[Terminal]:
    """Run a command, once it has written something, until the end of the block."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**inherited, "TERM": "xterm-256color", **environment},
    )
    terminal = Terminal(process, ours, theirs)
    try:
        terminal.wait_for(ready)
        yield terminal
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
