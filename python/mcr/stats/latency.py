"""The latency of a rule: how long its datagrams took through the relay, as a frozen value."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

from ..json_codec import Count, JsonObject

Bucket = tuple[float, float, Count]
"""The least time of a bucket and that of the next one, in microseconds, and the datagrams."""
_US_NS = 1000
_ALL = 100


@dataclass(frozen=True, slots=True)
class LatencyStats(JsonObject):
    """The times from the kernel's receive time stamp of a datagram to the end of its sends.

    `samples` is the number of measured datagrams; `unmeasured` those without a usable time. The
    times are in microseconds, None while there are no samples. `max_us` is exact; the percentiles
    are those of `buckets`, which know a time within 1/16 of it, or within 0.6 microseconds below
    1.024. `sum_us` is the sum of all times, exact. `buckets` holds those that are not empty.
    """

    samples: Count
    unmeasured: Count
    p50_us: float | None
    p99_us: float | None
    p999_us: float | None
    max_us: float | None
    sum_us: float
    buckets: tuple[Bucket, ...]

    @classmethod
    def of(
        cls, buckets: Iterable[tuple[int, int, int]], sum_ns: int, max_ns: int, unmeasured: int
    ) -> Self:
        """Return the latency of a histogram whose times are in nanoseconds."""
        counts = tuple((least / _US_NS, below / _US_NS, count) for least, below, count in buckets)
        max_us = max_ns / _US_NS
        return cls(
            samples=sum(count for _, _, count in counts),
            unmeasured=unmeasured,
            p50_us=_percentile(counts, 50, max_us),
            p99_us=_percentile(counts, 99, max_us),
            p999_us=_percentile(counts, 99.9, max_us),
            max_us=max_us if counts else None,
            sum_us=sum_ns / _US_NS,
            buckets=counts,
        )

    @property
    def mean_us(self) -> float | None:
        """The mean time in microseconds; None while there are no samples."""
        return self.sum_us / self.samples if self.samples else None

    def percentile(self, percent: float) -> float | None:
        """Return the time in microseconds within which `percent` of the datagrams were sent.

        Args:
            percent: above 0, at most 100.

        Returns:
            The middle of the time's bucket, `max_us` for the last datagram; None while there are
            no samples.

        Raises:
            ValueError: `percent` is out of its range.
        """
        if not 0 < percent <= _ALL:
            raise ValueError(f"percent: must be above 0 and at most 100, not {percent!r}")
        return _percentile(self.buckets, percent, self.max_us or 0)

    def below(self, bounds_us: Iterable[float]) -> Iterator[int]:
        """Yield for each of these times how many datagrams took less; bounds of buckets."""
        ends = [below for _, below, _ in self.buckets]
        sums = [0, *accumulate(count for _, _, count in self.buckets)]
        yield from (sums[sum(end <= bound for end in ends)] for bound in bounds_us)


def _percentile(buckets: tuple[Bucket, ...], percent: float, max_us: float) -> float | None:
    if not buckets:
        return None
    sums = [*accumulate(count for _, _, count in buckets)]
    rank = math.ceil(sums[-1] * percent / _ALL)
    if rank >= sums[-1]:
        return max_us
    least, below, _ = buckets[bisect_left(sums, rank)]
    return min(round((least + below) / 2, 3), max_us)
