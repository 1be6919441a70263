"""The rates of counts, from two readings of them."""

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class CountRates(Generic[K]):
    """Compares each reading of some counts with the one before."""

    def __init__(self) -> None:
        """Know no reading yet."""
        self._at_s: float | None = None
        self._counts: Mapping[K, int] = {}

    def since_last(self, at_s: float, counts: Mapping[K, int]) -> dict[K, float] | None:
        """What was added to each count a second, 0 for what has no reading before.

        Args:
            at_s: when the counts were read, in seconds since some moment.
            counts: the counts; one that was reset has the rate 0.

        Returns:
            The rates; None if these are the counts of the last time.
        """
        seconds = 0.0 if self._at_s is None else at_s - self._at_s
        if self._at_s is not None and seconds <= 0 and counts.keys() == self._counts.keys():
            return None
        before, self._counts, self._at_s = self._counts, counts, at_s
        if seconds <= 0:
            return dict.fromkeys(counts, 0.0)
        return {
            key: max(0, count - before.get(key, count)) / seconds for key, count in counts.items()
        }
