"""The values of what is on a link, which are also JSON objects."""

from dataclasses import dataclass
from typing import Literal

from ..json_codec import Count, JsonObject
from ..rules.fields import Address

Kind = Literal["rtp", "rtp-ts", "ts", "mold", "sap", "unknown"]
"""RTP (RFC 3550), RTP with an MPEG transport stream, such a stream alone, MoldUDP64, SAP."""
Confidence = Literal["high", "medium", "low", "none"]
"""high: all of at least 8 datagrams have the form and consecutive numbers. medium: at least 3.
low: fewer. none: no form is recognized."""


@dataclass(frozen=True, slots=True)
class LinkStream(JsonObject):
    """What one sender sends to one group and port."""

    interface: str
    vlan: Count
    """0 for untagged frames."""
    group: Address
    port: Count
    source: Address
    source_port: Count
    datagrams: Count
    bytes: Count
    """UDP payload."""
    pps: float
    """Datagrams per second, over the whole time."""
    bits_per_s: float
    size_min_bytes: Count
    size_max_bytes: Count
    ttl: Count
    """Of the last datagram."""
    kind: Kind
    confidence: Confidence
    name: str | None = None
    """The name of the session that announces it."""
    rules: tuple[str, ...] | None = None
    """The names or ids of the daemon's rules that relay it; None if no daemon was asked."""


@dataclass(frozen=True, slots=True)
class AnnouncedStream(JsonObject):
    """One stream of a session, as its SDP describes it."""

    group: Address
    port: Count
    media: str
    """Such as video or audio."""
    format: str
    """The payload type, and its encoding if that is stated."""
    sources: tuple[Address, ...] = ()
    """The senders of its source filter (RFC 4570); empty for any."""


@dataclass(frozen=True, slots=True)
class Announcement(JsonObject):
    """A session that is announced by SAP (RFC 2974)."""

    interface: str
    origin: Address
    """The host that announces it."""
    name: str
    streams: tuple[AnnouncedStream, ...]
    sdp: str


@dataclass(frozen=True, slots=True)
class LinkReport(JsonObject):
    """What was on the links."""

    seconds: float
    streams: tuple[LinkStream, ...]
    announcements: tuple[Announcement, ...]
    more_streams: Count
    """Datagrams of further streams, beyond the limit of the table."""
    unreadable: Count
    """Multicast frames without a UDP datagram that can be read, such as fragments."""
    missed_frames: Count
    """Frames that this program was too slow for; rates are too low by their share."""
