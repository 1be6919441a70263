"""A thread for jobs that may block on a disk, executed in order.

A disk that hangs, or a file on an unreachable server, thus delays only these jobs: never a restart,
a heartbeat or a signal.
"""

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

_JOIN_S = 0.5  # an idle thread ends at once

Job = Callable[[], Callable[[], None]]
"""Runs in the thread; returns a callback that runs in the event loop."""


class DiskThread:
    """The thread; `descriptor` is readable while `run_callbacks` has something to do."""

    def __init__(self) -> None:
        """Start the thread."""
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.pending = 0
        """The number of jobs whose callback has not run yet."""
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._callbacks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        # A daemon thread: if it hangs, the process can exit all the same.
        self._thread = threading.Thread(target=self._run_jobs, name="mcr-disk", daemon=True)
        self._thread.start()

    def run(self, job: Job) -> None:
        """Queue a job; it runs after all earlier ones."""
        self.pending += 1
        self._jobs.put(job)

    def run_callbacks(self) -> None:
        """Call the callbacks of all finished jobs."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)
        while True:
            try:
                callback = self._callbacks.get_nowait()
            except queue.Empty:
                return
            self.pending -= 1
            callback()

    def close(self) -> None:
        """End the thread; if it hangs, abandon it together with the descriptor that it uses."""
        self._jobs.put(None)
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():
            os.close(self.descriptor)

    def _run_jobs(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._callbacks.put(job())
            os.eventfd_write(self.descriptor, 1)
