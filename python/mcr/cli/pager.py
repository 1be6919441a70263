"""A pager for output that is longer than the terminal."""

import io
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress


@contextmanager
def paged(enabled: bool) -> Iterator[None]:
    """Show what the block prints to a terminal in a pager, if it is longer than the terminal.

    The pager is $PAGER, by default less. Elsewhere than on a terminal nothing changes.
    """
    if not (enabled and sys.stdout.isatty()):
        yield
        return
    buffer = _TerminalText()
    with redirect_stdout(buffer):
        yield
    text = buffer.getvalue()
    if not (_is_long(text) and _page(text)):
        print(text, end="", flush=True)


class _TerminalText(io.StringIO):
    """Text for a terminal, kept in memory."""

    def isatty(self) -> bool:
        return True


def _is_long(text: str) -> bool:
    from rich.text import Text  # noqa: PLC0415 -- slow to load, and for terminals only

    size = shutil.get_terminal_size()
    lines = (Text.from_ansi(line).cell_len for line in text.splitlines())
    return sum(max(1, -(-cells // size.columns)) for cells in lines) >= size.lines


def _page(text: str) -> bool:
    """Run the pager; return whether it could be started."""
    import subprocess  # noqa: PLC0415 -- at the first long output

    command = shlex.split(os.environ.get("PAGER", "less"))
    if not command:
        return False
    environment = {"LESS": "FRX", **os.environ}
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
    except OSError:
        return False
    # Ctrl-C belongs to the pager.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with suppress(OSError):  # it ended before it had read all
            process.communicate(text.encode(errors="backslashreplace"))
        process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return True
