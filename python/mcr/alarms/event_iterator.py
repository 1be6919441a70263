"""What streams of events have in common, whoever publishes them."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from ..errors import McrError
from .event import Event


class EventIterator(ABC):
    """The events that `read` returns one by one, for `for`; the end of a `with` block closes it."""

    @abstractmethod
    def read(self, timeout_s: float | None = None) -> Event | None:
        """Wait for the next event; None if none arrives within `timeout_s` seconds."""

    @abstractmethod
    def close(self) -> None:
        """End the stream, also for a thread that waits for an event. Idempotent."""

    @property
    @abstractmethod
    def _is_over(self) -> bool:
        """Whether an McrError of `read` is the end of the stream, not a failure."""

    def __iter__(self) -> Self:
        """The stream itself."""
        return self

    def __next__(self) -> Event:
        """Wait for the next event without a time limit; ends with the stream."""
        try:
            event = self.read()
        except McrError:
            if self._is_over:
                raise StopIteration from None
            raise
        assert event is not None  # without a time limit there always is one
        return event

    def __enter__(self) -> Self:
        """Return the stream."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()
