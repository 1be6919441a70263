"""The streams that were seen, counted; at most so many."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .._native import Datagram
from ..rules.fields import Address
from . import sap
from .kinds import SAMPLES, StreamClassifier
from .results import Confidence, Kind, LinkStream

STREAMS_LIMIT = 4096

Key = tuple[str, int, Address, int, Address, int]
"""Interface, VLAN, group, port, source and its port."""


@dataclass(slots=True)
class _Counts:
    datagrams: int = 0
    bytes: int = 0
    size_min: int = 1 << 16
    size_max: int = 0
    ttl: int = 0
    classifier: StreamClassifier = field(default_factory=StreamClassifier)


class StreamTable:
    """Counts datagrams by interface, VLAN, group, port and sender."""

    def __init__(self) -> None:
        """Know none."""
        self._streams: dict[Key, _Counts] = {}
        self.more = 0
        """Datagrams of streams that did not fit."""

    def add(self, interface: str, vlan: int, datagram: Datagram, segment_bytes: int) -> None:
        """Count a datagram, or all that a super-frame holds, each of `segment_bytes`; 0 if one."""
        payload = datagram.payload
        key = (
            *(interface, vlan, datagram.group, datagram.port),
            *(datagram.source, datagram.source_port),
        )
        counts = self._streams.get(key)
        if counts is None:
            if len(self._streams) == STREAMS_LIMIT:
                self.more += 1
                return
            counts = self._streams[key] = _Counts()
        size = segment_bytes or len(payload)
        number = -(-len(payload) // size) if size else 1
        counts.datagrams += number
        counts.bytes += len(payload)
        last = len(payload) - (number - 1) * size
        counts.size_min = min(counts.size_min, size, last)
        counts.size_max = max(counts.size_max, min(size, len(payload)))
        counts.ttl = datagram.ttl
        for at in range(number):
            if counts.classifier.seen == SAMPLES:
                break
            counts.classifier.add(payload[at * size : (at + 1) * size])

    def streams(
        self, seconds: float, names: Mapping[tuple[Address, int], str]
    ) -> tuple[LinkStream, ...]:
        """All streams, those with the most bytes first.

        Args:
            seconds: the time over which they were counted.
            names: of announced sessions, by group and port.
        """
        found = sorted(self._streams.items(), key=lambda item: -item[1].bytes)
        return tuple(
            _stream(key, counts, seconds, names.get((key[2], key[3]))) for key, counts in found
        )


def _stream(key: Key, counts: _Counts, seconds: float, name: str | None) -> LinkStream:
    kind, confidence = _kind(key, counts)
    return LinkStream(
        *key,
        datagrams=counts.datagrams,
        bytes=counts.bytes,
        pps=round(counts.datagrams / seconds, 1),
        bits_per_s=round(8 * counts.bytes / seconds, 1),
        size_min_bytes=counts.size_min,
        size_max_bytes=counts.size_max,
        ttl=counts.ttl,
        kind=kind,
        confidence=confidence,
        name=name,
    )


def _kind(key: Key, counts: _Counts) -> tuple[Kind, Confidence]:
    if key[3] == sap.PORT and str(key[2]) in sap.GROUPS[key[2].version]:
        return "sap", "high"
    return counts.classifier.result()
