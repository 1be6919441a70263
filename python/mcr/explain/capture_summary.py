"""The distinct datagrams of a capture, counted, and its frames without one by reason."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from .. import _native
from .captures import CapturedFrame
from .results import DatagramFacts
from .sentences import frame_text

DISTINCT_LIMIT = 1000
"""The most datagrams that are told apart; of the others only the frames are counted."""


@dataclass(slots=True)
class FrameCount:
    """Frames that are alike."""

    first: int
    """The number of the first of them in the capture, from 1."""
    frames: int = 0


@dataclass(slots=True)
class CaptureSummary:
    """What a capture holds."""

    frames: int = 0
    datagrams: dict[DatagramFacts, FrameCount] = field(default_factory=dict)
    """Each with the largest size among those that differ in nothing else."""
    discarded: dict[str, FrameCount] = field(default_factory=dict)
    """By reason."""
    more: int = 0
    """Frames with further datagrams."""
    outbound: int = 0
    """Frames that the host itself sent, such as the copies of a relay."""


def summarize(
    frames: Iterable[CapturedFrame], interface: str | None, *, verify: bool
) -> CaptureSummary:
    """Read all frames of a capture, by the parser of the engine.

    Args:
        frames: the frames.
        interface: where all of them arrive; None leaves it to the capture.
        verify: whether a frame with a wrong UDP checksum is discarded.

    Raises:
        ValueError: neither says on which interface a frame arrived; or of the reader.
    """
    summary = CaptureSummary()
    sizes: dict[DatagramFacts, int] = {}
    counts: dict[DatagramFacts, FrameCount] = {}
    for number, frame in enumerate(frames, 1):
        summary.frames = number
        if frame.is_outbound and interface is None:
            summary.outbound += 1
            continue
        place = interface or frame.interface
        if place is None:
            raise ValueError("does not say on which interface it was captured; add --interface")
        parsed = _native.parse_captured(frame.data, frame.network, verify and frame.is_whole)
        if isinstance(parsed, _native.Discard):
            count = summary.discarded.setdefault(parsed.reason, FrameCount(number))
            count.frames += 1
            continue
        facts = DatagramFacts(
            group=parsed.group,
            port=parsed.port,
            interface=place,
            source=parsed.source,
            source_port=parsed.source_port,
            ttl=parsed.ttl,
            dscp=parsed.dscp,
            vlan=parsed.vlan,
        )
        if facts not in counts and len(counts) == DISTINCT_LIMIT:
            summary.more += 1
            continue
        counts.setdefault(facts, FrameCount(number)).frames += 1
        sizes[facts] = max(sizes.get(facts, 0), len(parsed.payload))
    summary.datagrams = {
        replace(facts, size_bytes=sizes[facts]): count for facts, count in counts.items()
    }
    return summary


def discarded_as_dicts(summary: CaptureSummary) -> list[dict[str, object]]:
    """The frames without a datagram, as JSON objects."""
    return [
        {"reason": reason, "text": frame_text(reason), "frames": each.frames, "first": each.first}
        for reason, each in summary.discarded.items()
    ]
