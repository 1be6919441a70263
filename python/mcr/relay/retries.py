"""A thread that retries what the kernel does not notify: host names, routes and busy addresses."""

import signal
import threading
import time
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
INTERVAL_S = 1.0
_INTERVAL_FACTOR = 10  # the interval in multiples of an attempt's CPU time: a load of at most 10 %


class Retries(Generic[T]):
    """A thread that runs while there is something to retry."""

    def __init__(
        self,
        owner: T,
        attempt: Callable[[T], bool],
        *,
        name: str = "mcr-retry",
        interval_s: float = INTERVAL_S,
    ) -> None:
        """Create the retries without a thread; `begin` starts it.

        Args:
            owner: the argument of `attempt`; a weak reference, and the thread ends with its owner.
            attempt: tries once; returns whether to try again.
            name: the name of the thread.
            interval_s: the least time before each attempt, in seconds.
        """
        self._name = name
        self._interval_s = interval_s
        self._owner = weakref.ref(owner)
        self._attempt = attempt
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_requested = False
        self._ended = threading.Event()

    def begin(self) -> None:
        """Request an attempt; a new thread gets the network namespace of the calling thread."""
        with self._lock:
            self._is_requested = True
            if self._thread is None and not self._ended.is_set():
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                # Start before the assignment: a signal handler may raise between the two.
                thread.start()
                self._thread = thread

    def end(self) -> None:
        """End the retries; does not wait for an attempt in progress."""
        self._ended.set()

    def _run(self) -> None:
        # A program that waits for signals may have blocked them in its own threads only.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        elapsed_s = 0.0
        while not self._ended.wait(max(self._interval_s, _INTERVAL_FACTOR * elapsed_s)):
            with self._lock:
                self._is_requested = False
            began_s = time.thread_time()
            owner = self._owner()
            is_unfinished = owner is not None and self._attempt(owner)
            del owner
            elapsed_s = time.thread_time() - began_s
            with self._lock:
                if not (is_unfinished or self._is_requested):
                    self._thread = None
                    return
