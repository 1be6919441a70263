"""Repeated messages of a log: each is written once a second, and those left out are counted."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
REMEMBERED_MESSAGES = 512
"""The most messages of which repeats are recognized."""
_WINDOW_S = 1.0


@dataclass(slots=True)
class _Window(Generic[T]):
    """The time after a message in which its repeats are refused."""

    began_s: float
    message: T
    refused: int = 0


class RepeatCounter(Generic[T]):
    """Accepts each message once a second, and counts the repeats that it refuses.

    Not thread-safe.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Measure time by this clock, in seconds."""
        self._clock = clock
        self._windows: OrderedDict[Hashable, _Window[T]] = OrderedDict()
        self._forgotten = 0

    def __len__(self) -> int:
        """The number of messages of which repeats are recognized now."""
        return len(self._windows)

    def accept(self, key: Hashable, message: Callable[[], T]) -> int | None:
        """Accept or refuse a message.

        Args:
            key: messages with the same key are the same.
            message: makes what `due` yields of an accepted message.

        Returns:
            How many repeats were refused since it was last accepted; None if it is refused.
        """
        now_s, window = self._clock(), self._windows.get(key)
        if window is not None and now_s - window.began_s < _WINDOW_S:
            window.refused += 1
            return None
        self._open(key, _Window(now_s, message()))
        return 0 if window is None else window.refused

    def due(self, *, at_once: bool = False) -> Iterator[tuple[T, int]]:
        """Yield each message whose second is over and had repeats, with their number.

        Args:
            at_once: also those whose second is not over.
        """
        now_s = self._clock()
        while self._windows:  # in the order of their beginning
            key, window = next(iter(self._windows.items()))
            if now_s - window.began_s < _WINDOW_S and not at_once:
                break
            del self._windows[key]
            if window.refused:
                if not at_once:
                    self._open(key, _Window(now_s, window.message))
                yield window.message, window.refused

    def take_forgotten(self) -> int:
        """Return how many repeats were refused of messages that are no longer remembered."""
        forgotten, self._forgotten = self._forgotten, 0
        return forgotten

    def _open(self, key: Hashable, window: _Window[T]) -> None:
        self._windows[key] = window
        self._windows.move_to_end(key)
        if len(self._windows) > REMEMBERED_MESSAGES:
            _, oldest = self._windows.popitem(last=False)
            self._forgotten += oldest.refused


def with_repeats(text: str, count: int) -> str:
    """A message with the number of its repeats that were left out."""
    return f"{text} ({count} suppressed)" if count else text
