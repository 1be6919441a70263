"""Signals: an orderly end on Ctrl-C and SIGTERM, and signals held back for a safe moment."""

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
    """Call `stop` on SIGINT and SIGTERM, so that the command can still report its results."""
    before = {number: signal.signal(number, lambda *_: stop()) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class HeldSignals:
    """Signals that stay pending except while `take` waits for one.

    `signal.sigtimedwait` cannot be used: CPython (3.11, for one) reports a signal that never came
    if the process is stopped and continued during the call and the time is over by then.
    """

    def __init__(self, numbers: socket.socket) -> None:
        """Read the numbers of signals from the other end of the wake-up descriptor."""
        self._numbers = numbers
        self._poll = select.poll()  # select(2) ends at descriptor 1023
        self._poll.register(numbers, select.POLLIN)

    def take(self, wait_s: float) -> int | None:
        """Wait up to `wait_s` seconds for a signal; return its number, or None."""
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
        try:
            is_ready = bool(self._poll.poll(1000 * wait_s))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return self._numbers.recv(1)[0] if is_ready else None


@contextmanager
def hangup_held() -> Iterator[None]:
    """Keep SIGHUP pending for `signals_held` in the block; ignore it after the block."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def signals_held() -> Iterator[HeldSignals]:
    """Keep the signals pending for `take`; threads that start in the block inherit that.

    So a signal ends a wait at once and never interrupts a change or a report.
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
    """Run the block until Ctrl-C, which is its regular end."""
    try:
        yield
    except KeyboardInterrupt:
        leave_unread()


@contextmanager
def interrupt_held() -> Iterator[None]:
    """Let Ctrl-C come only after the block, such as one that draws: half of it would stay."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def leave_unread() -> None:
    """Discard buffered standard output, whose reader has exited or is stuck.

    Otherwise the interpreter would try to write it at exit, and complain or wait.
    """
    with suppress(OSError, ValueError):  # it is in memory
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: Python itself writes the signal's number to the wake-up descriptor."""
