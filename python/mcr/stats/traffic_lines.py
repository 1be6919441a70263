"""The periodic lines of the log about traffic: sums, and what the last second added."""

from collections.abc import Mapping
from typing import NamedTuple, Self

from .._native import CounterReading
from .discards import MISMATCHES, PARSE_ERRORS
from .model import Stats

INTERVAL_S = 1.0
"""The interval of the lines."""


class TrafficSums(NamedTuple):
    """The sums over all interfaces and outputs, in datagrams."""

    at_s: float
    """When they were read (`time.monotonic`)."""
    received: int
    matched: int
    parse_errors: int
    mismatches: int
    lost_frames: int
    """Frames that the kernel lost, as no buffer was free."""
    wanted: int
    sent: int
    sent_bytes: int
    lost: int

    @classmethod
    def of_reading(cls, at_s: float, reading: CounterReading, ingress: str) -> Self:
        """Add up a reading, of an ingress that is `packet` or `udp`."""
        interfaces = reading.interfaces(ingress)
        drops = [each["dropped"] for each in interfaces]
        received, matched, lost_frames = (
            sum(each[name] for each in interfaces)
            for name in ("received", "matched", "kernel_dropped_frames")
        )
        discarded = _sum(drops, PARSE_ERRORS), _sum(drops, MISMATCHES)
        return cls(at_s, received, matched, *discarded, lost_frames, *reading.copies())

    @classmethod
    def of_stats(cls, stats: Stats) -> Self:
        """Add up statistics."""
        drops = [each.dropped for each in stats.interfaces]
        outputs = [output for rule in stats.rules for output in rule.outputs]
        return cls(
            stats.taken_at_s,
            sum(each.received for each in stats.interfaces),
            sum(each.matched for each in stats.interfaces),
            _sum(drops, PARSE_ERRORS),
            _sum(drops, MISMATCHES),
            sum(each.kernel_dropped_frames for each in stats.interfaces),
            sum(each.wanted for each in outputs),
            sum(each.sent for each in outputs),
            sum(each.sent_bytes for each in outputs),
            sum(each.lost for each in outputs),
        )


class TrafficLines:
    """Makes the lines of successive sums."""

    def __init__(self) -> None:
        """Have no sums yet."""
        self._last: TrafficSums | None = None

    def of(self, now: TrafficSums) -> tuple[str, str]:
        """Return the lines about ingress and egress.

        The rates are those since the last call, 0 for the first one.
        """
        last, self._last = self._last or now, now
        elapsed_s = now.at_s - last.at_s
        return (
            f"[STATS:Ingress] recv={now.received} matched={now.matched}"
            f" parse_err={now.parse_errors} no_match={now.mismatches}"
            f" buf_exhaust={now.lost_frames}"
            f" ({_rate(now.received - last.received, elapsed_s)} pps)",
            f"[STATS:Egress] sent={now.sent} submitted={now.wanted} errors={now.lost}"
            f" bytes={now.sent_bytes} ({_rate(now.sent - last.sent, elapsed_s)} pps)",
        )


def _sum(drops: list[Mapping[str, int]], reasons: tuple[str, ...]) -> int:
    return sum(dropped[reason] for dropped in drops for reason in reasons)


def _rate(count: int, seconds: float) -> int:
    """Datagrams per second; 0 if counters have begun again."""
    return round(max(0, count) / seconds) if seconds > 0 else 0
