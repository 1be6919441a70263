"""Ctrl-C and SIGTERM as an orderly end, and what is not written any more then."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` when the process shall end, so that what was done so far is still reported."""
    before = {number: signal.signal(number, lambda *_: stop()) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def until_interrupt() -> Iterator[None]:
    """Go on until Ctrl-C, which is the way to end it."""
    try:
        yield
    except KeyboardInterrupt:
        leave_unread()


def leave_unread() -> None:
    """Drop what waits to be written to standard output: whoever should read it is gone or stuck.

    Else the interpreter would try once more at its end, and complain or wait.
    """
    with suppress(OSError, ValueError):  # it is in memory
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
