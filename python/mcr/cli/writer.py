"""A writer of notices in its own thread, since their reader may be slow, stuck or gone.

Owns which texts are discarded then.
"""

import os
import select
import signal
import threading
import time
from collections import deque
from typing import Protocol, TextIO

PATIENCE_S = 1.0
"""How long a command waits at its end for a reader of notices that reads nothing."""
_PIECE_BYTES = 4096
_LIMIT_BYTES = 1 << 18  # of queued text: some seconds of a busy table


class TextStream(Protocol):
    """A destination of text."""

    def write(self, text: str, /) -> int:
        """Write a text; return its length."""

    def flush(self) -> None:
        """Make the text visible."""

    def isatty(self) -> bool:
        """Whether the destination is a terminal."""


class TextWriter:
    """A stream that never blocks.

    A text that does not fit into the queue is discarded, as is every text once the reader is gone.
    """

    def __init__(self, stream: TextIO, limit_bytes: int = _LIMIT_BYTES) -> None:
        """Wrap a stream of the system, or one in memory; the first text starts the thread.

        Args:
            stream: the destination.
            limit_bytes: the size of the queue; into an empty queue a longer text fits, too.
        """
        self.encoding = stream.encoding or "utf-8"
        """Read by `rich`."""
        self._stream = stream
        self._limit_bytes = limit_bytes
        self._texts: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._reader_is_gone = False

    def write(self, text: str, /) -> int:
        """Queue a text, or discard it; return its length."""
        data = text.encode(self.encoding, "backslashreplace")
        with self._changed:
            fits = not self._texts or self._waiting_bytes + len(data) <= self._limit_bytes
            if data and fits and not self._reader_is_gone:
                self._texts.append(data)
                self._waiting_bytes += len(data)
                self._changed.notify_all()
                self._begin()
        return len(text)

    def flush(self) -> None:
        """Do nothing: the thread writes queued text as soon as it can."""

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def finish(self, patience_s: float) -> None:
        """Wait until the queue is empty, or the reader reads nothing for `patience_s` seconds."""
        with self._changed:
            left_bytes, since_s = self._waiting_bytes, time.monotonic()
            while self._waiting_bytes:
                if self._waiting_bytes < left_bytes:
                    left_bytes, since_s = self._waiting_bytes, time.monotonic()
                rest_s = since_s + patience_s - time.monotonic()
                if rest_s <= 0:
                    return
                self._changed.wait(rest_s)

    def _begin(self) -> None:
        if self._thread is not None:
            return
        # A daemon thread: the process can exit while it is stuck. Other threads take the signals.
        self._thread = threading.Thread(target=self._run, name="mcr-writer", daemon=True)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._texts)
                text = self._texts[0]
            try:
                self._put(memoryview(text))
            except (OSError, ValueError):  # a pipe without a reader, a full disk, a closed file
                with self._changed:
                    self._reader_is_gone = True
                    self._texts.clear()
                    self._waiting_bytes = 0
                    self._changed.notify_all()
                return
            with self._changed:
                self._texts.popleft()

    def _put(self, rest: memoryview) -> None:
        """Write in small pieces, so that `finish` notices whether the reader still reads."""
        try:
            descriptor = self._stream.fileno()
        except (OSError, ValueError):  # a stream in memory
            descriptor = None
        while rest:
            taken = self._put_piece(descriptor, rest)
            rest = rest[taken:]
            with self._changed:
                self._waiting_bytes -= taken
                self._changed.notify_all()

    def _put_piece(self, descriptor: int | None, piece: memoryview) -> int:
        if descriptor is None:
            self._stream.write(str(piece, self.encoding))
            return len(piece)
        try:
            return os.write(descriptor, piece[:_PIECE_BYTES])
        except BlockingIOError:  # another process that shares it has set O_NONBLOCK
            select.select([], [descriptor], [])
            return 0
