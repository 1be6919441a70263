"""A thread that does what may wait for a disk, one job after the other.

A disk that hangs, or a file on a server that is gone, so delays only what it is asked for: never
a restart, a pulse or a signal. Knows neither processes nor what the jobs do.
"""

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

_CLOSE_S = 0.5  # an idle thread needs no time to end

Job = Callable[[], Callable[[], None]]
"""Runs in the thread; what it returns is called in the loop."""


class DiskThread:
    """The thread; `descriptor` is ready to be read when `finish` has something to call."""

    def __init__(self) -> None:
        """Start the thread."""
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.pending = 0
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        # A daemon thread: one that hangs must not hold up the end of the process.
        self._thread = threading.Thread(target=self._work, name="mcr-disk", daemon=True)
        self._thread.start()

    def run(self, job: Job) -> None:
        """Do it when all before is done."""
        self.pending += 1
        self._jobs.put(job)

    def finish(self) -> None:
        """Call what the jobs that are done have returned."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)
        while True:
            try:
                done = self._done.get_nowait()
            except queue.Empty:
                return
            self.pending -= 1
            done()

    def close(self) -> None:
        """End the thread; one that hangs is left behind, with the descriptor that it needs."""
        self._jobs.put(None)
        self._thread.join(_CLOSE_S)
        if not self._thread.is_alive():
            os.close(self.descriptor)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._done.put(job())
            os.eventfd_write(self.descriptor, 1)
