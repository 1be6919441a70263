"""Text for people, written by a thread of its own: who should read it may be slow, stuck or gone.

Owns what is left out then. Knows nothing of what it writes.
"""

import os
import select
import signal
import threading
import time
from collections import deque
from typing import Protocol, TextIO

PATIENCE_S = 1.0
"""How long the end of a command waits for a reader of notices who takes nothing."""
_PIECE_BYTES = 4096
_LIMIT_BYTES = 1 << 18  # of text that waits: some seconds of a busy table


class Stream(Protocol):
    """What text is written to."""

    def write(self, text: str, /) -> int:
        """Take a text; how long it is."""

    def flush(self) -> None:
        """Let it be seen."""

    def isatty(self) -> bool:
        """Whether somebody looks at it as it comes."""


class Writer:
    """A stream that takes every text at once.

    What comes while too much waits is left out, as is everything once nobody can read it.
    """

    def __init__(self, stream: TextIO, limit_bytes: int = _LIMIT_BYTES) -> None:
        """Write to a stream of the system, or to one in memory; its thread begins with a text.

        Args:
            stream: where to.
            limit_bytes: how much may wait; a text that comes while nothing waits may be longer.
        """
        self.encoding = stream.encoding or "utf-8"
        """As `rich` asks for it."""
        self._stream = stream
        self._limit_bytes = limit_bytes
        self._texts: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_gone = False

    def write(self, text: str, /) -> int:
        """Take a text, or leave it out."""
        data = text.encode(self.encoding, "backslashreplace")
        with self._changed:
            fits = not self._texts or self._waiting_bytes + len(data) <= self._limit_bytes
            if data and fits and not self._is_gone:
                self._texts.append(data)
                self._waiting_bytes += len(data)
                self._changed.notify_all()
                self._begin()
        return len(text)

    def flush(self) -> None:
        """Do nothing: all that is taken is written as soon as it can be."""

    def isatty(self) -> bool:
        """Whether it ends at a terminal."""
        return self._stream.isatty()

    def finish(self, patience_s: float) -> None:
        """Wait until all is written, or nothing of it was taken for so many seconds."""
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
        # A daemon: the process can end while it is stuck. Signals are for the others.
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
                    self._is_gone = True
                    self._texts.clear()
                    self._waiting_bytes = 0
                    self._changed.notify_all()
                return
            with self._changed:
                self._texts.popleft()

    def _put(self, rest: memoryview) -> None:
        """Write it, piece by piece so that it is seen whether somebody takes it."""
        try:
            descriptor = self._stream.fileno()
        except (OSError, ValueError):  # it is in memory
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
        except BlockingIOError:  # somebody who shares it has made it so
            select.select([], [descriptor], [])
            return 0
