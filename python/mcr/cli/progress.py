"""What a command does while it works for longer than a second: one line on standard error."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..protocol.text import printable

_AFTER_S = 1.0
_COLUMNS = 80  # where the terminal does not know its width


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Show a text and the seconds so far, once the block takes over a second; then take it away.

    Only on a terminal. Nothing else may write there during the block.
    """
    if not sys.stderr.isatty():
        yield
        return
    ended = threading.Event()
    line = threading.Thread(target=_show, args=(printable(text), ended), daemon=True)
    line.start()
    try:
        yield
    finally:
        ended.set()
        line.join()


def _show(text: str, ended: threading.Event) -> None:
    began_s, shown = time.monotonic(), 0
    while not ended.wait(_AFTER_S):
        # The last column stays free, where some terminals wrap at once.
        line = f"{text}: {time.monotonic() - began_s:.0f} s"[: _columns() - 1]
        _write(f"\r{line:{shown}}")
        shown = len(line)
    if shown:
        _write(f"\r{'':{shown}}\r")


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        return _COLUMNS


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:  # the terminal has gone
        return
