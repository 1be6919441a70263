"""Retries of what the kernel does not notify: hostnames, routes and busy addresses.

Owns the thread and its pace. Knows neither rules nor names.
"""

import signal
import threading
import time
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
EVERY_S = 1.0
_SHARE = 10  # an attempt takes at most one part in so many of the time


class Retries(Generic[T]):
    """A thread, for as long as there is something to be tried."""

    def __init__(self, owner: T, attempt: Callable[[T], bool]) -> None:
        """Nothing is tried yet.

        Args:
            owner: whose thread it is; it ends with its owner, and does not keep it.
            attempt: tries once, and says whether it is to be called again.
        """
        self._owner = weakref.ref(owner)
        self._attempt = attempt
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_wanted = False
        self._ended = threading.Event()

    def begin(self) -> None:
        """See to it that it is tried; what begins a thread gives it its network namespace."""
        with self._lock:
            self._is_wanted = True
            if self._thread is None and not self._ended.is_set():
                thread = threading.Thread(target=self._run, name="mcr-retry", daemon=True)
                # First: an exception of a signal handler may come between.
                thread.start()
                self._thread = thread

    def end(self) -> None:
        """Try no more; an attempt that is made just now is not waited for."""
        self._ended.set()

    def _run(self) -> None:
        # A program that waits for its signals has them held in its other threads only.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        took_s = 0.0
        while not self._ended.wait(max(EVERY_S, _SHARE * took_s)):
            with self._lock:
                self._is_wanted = False
            began_s = time.thread_time()
            owner = self._owner()
            goes_on = owner is not None and self._attempt(owner)
            del owner
            took_s = time.thread_time() - began_s
            with self._lock:
                if not (goes_on or self._is_wanted):
                    self._thread = None
                    return
