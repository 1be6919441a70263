"""What the numbers in the datagrams of a flow say, as a frozen value."""

from dataclasses import dataclass
from typing import Literal

from ..json_codec import Count, JsonObject


@dataclass(frozen=True, slots=True)
class SequenceStats(JsonObject):
    """What the numbers in a flow's datagrams say.

    `lost`, `duplicated`, `reordered` and `largest_gap` count `unit`: datagrams, messages of
    MoldUDP64, or packets of MPEG-TS. `numbered` and `unfit` are the datagrams with and without a
    number that fits. Nothing is counted while `basis` is "undecided".
    """

    format: Literal["rtp", "ts", "mold", "mcr", "field"] | None
    """None while it is undecided."""
    unit: Literal["datagrams", "messages", "ts_packets"] | None
    basis: Literal["undecided", "recognised", "told"]
    """Whether the rule tells the format, or eight datagrams in sequence had it."""
    numbered: Count
    unfit: Count
    lost: Count
    duplicated: Count
    reordered: Count
    gaps: Count
    """How often something was missing."""
    largest_gap: Count
    resets: Count
    """How often the sender began to count anew."""
    ts_lost: Count | None
    """The packets of MPEG-TS missing within RTP; None for other flows."""
    payload_type: Count | None
    """The RTP payload type of the last datagram."""
    jitter_us: float
    jitter_of: Literal["timestamps", "arrivals"]
    """Whether the jitter is that of RFC 3550, or that of the times between arrivals."""
    arrivals: tuple[tuple[float | None, Count], ...]
    """How many times between arrivals were up to so many microseconds, and above the element
    before; None has no upper bound."""

    @property
    def missing(self) -> int | None:
        """What is lost, in RTP also of the MPEG-TS in it; None while the format is undecided."""
        return None if self.format is None else self.lost + (self.ts_lost or 0)

    @property
    def text(self) -> str:
        """The format, and what is wrong, in a few words."""
        if self.format is None:
            return "-"
        counts = (
            (self.lost, "lost"),
            (self.duplicated, "duplicated"),
            (self.reordered, "reordered"),
            (self.resets, "resets"),
            (self.unfit, "unfit"),
            (self.ts_lost, "ts lost"),
        )
        faults = [f"{count} {name}" for count, name in counts if count]
        jitter = f"jitter {self.jitter_us:.0f} us"
        return f"{self.format}: {', '.join([*(faults or ['complete']), jitter])}"

    @property
    def confidence(self) -> float:
        """The share of datagrams with a number that fits, 0 to 1; 0 while it is undecided."""
        return self.numbered / ((self.numbered + self.unfit) or 1)
