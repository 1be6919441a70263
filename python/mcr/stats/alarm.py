"""An alarm: traffic that does not meet a rule's expectation, a loop, or an input that is down."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ..json_codec import Count, Growing, JsonObject

AlarmCode = Literal[
    "silent", "low_pps", "low_bitrate", "few_sources", "many_sources", "loop", "leg_down"
]
"""A closed list, which only grows. `expected` and `seen` of an alarm have the unit in brackets:

- `silent`: no datagram for longer than expected (seconds).
- `low_pps`: fewer datagrams than expected (per second).
- `low_bitrate`: fewer bits of payload than expected (per second).
- `few_sources`, `many_sources`: fewer or more senders than expected (senders).
- `loop`: what the rule has relayed comes back to it; none is expected (watched payloads).
- `leg_down`: an input of a merging rule delivers nothing for longer than expected, while another
  one does (seconds).
"""
_KILO = 1000


@dataclass(frozen=True, slots=True)
class Alarm(JsonObject):
    """An expectation that is not met now, a loop, or an input of a merge that is down.

    `since` is the Unix time in seconds from which on it was not met: of `silent`, that of the last
    datagram. `seen` is what the last sample found.
    """

    code: Annotated[AlarmCode, Growing()]
    since: float
    expected: float
    seen: float = field(compare=False)
    source: str | None = field(default=None, compare=False)
    """Of a loop, the address from which the last payload came back."""
    leg: Count | None = None
    """Of an input that is down, its number in its rule, from 1."""

    def __str__(self) -> str:
        """What is wrong, as a part of a sentence."""
        expected, seen = self.expected, self.seen
        if self.code == "silent":
            return f"nothing for {seen:.1f} s, expected within {expected:g} s"
        if self.code == "low_pps":
            return f"{seen:.0f} of {expected:.0f} pps expected"
        if self.code == "low_bitrate":
            return f"{_bitrate(seen)} of {_bitrate(expected)} expected"
        if self.code == "loop":
            return f"a loop: what it has relayed comes back, from {self.source}"
        if self.code == "leg_down":
            return f"input {self.leg} is down: nothing for {seen:.1f} s, while another delivers"
        senders = "source" if seen == 1 else "sources"
        return f"{seen:.0f} {senders}, {expected:.0f} expected"

    @property
    def is_surplus(self) -> bool:
        """Whether more arrives than expected, not less."""
        return self.code == "many_sources"

    @property
    def is_harmless(self) -> bool:
        """Whether all that the rule expects is sent nevertheless."""
        return self.is_surplus or self.code == "leg_down"


def _bitrate(bits_per_s: float) -> str:
    for unit in ("bps", "kbps", "mbps"):
        if bits_per_s < _KILO:
            return f"{bits_per_s:.4g} {unit}"
        bits_per_s /= _KILO
    return f"{bits_per_s:.4g} gbps"
