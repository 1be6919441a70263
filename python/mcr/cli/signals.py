"""Ctrl-C and SIGTERM as an orderly end, and what is not written any more then."""

import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_HELD = (*_SIGNALS, signal.SIGHUP)


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` when the process shall end, so that what was done so far is still reported."""
    before = {number: signal.signal(number, lambda *_: stop()) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class HeldSignals:
    """Signals that stay pending but for the time that `take` waits for one.

    `signal.sigtimedwait` would do, but CPython (3.11, for one) makes up a signal when a process is
    stopped and continued during the call and its time is over by then.
    """

    def __init__(self, told: socket.socket) -> None:
        """Read the signals' numbers from the other end of the wake-up descriptor."""
        self._told = told

    def take(self, wait_s: float) -> int | None:
        """Wait up to so many seconds for a signal; return its number."""
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
        try:
            readable, _, _ = select.select([self._told], [], [], wait_s)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return self._told.recv(1)[0] if readable else None


@contextmanager
def hangup_held() -> Iterator[None]:
    """Keep SIGHUP pending, for `signals_held` inside; after the block it is ignored."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def signals_held() -> Iterator[HeldSignals]:
    """Keep the signals pending, for `take`; threads started meanwhile inherit it.

    So a signal ends the waiting at once and never interrupts a change or a report.
    """
    near, far = socket.socketpair()
    far.setblocking(False)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    before = {number: signal.signal(number, _noted) for number in _HELD}
    wakeup = signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)
    try:
        yield HeldSignals(near)
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        near.close()
        far.close()


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


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Python writes the signal's number to the wake-up descriptor; there is no more to do."""
