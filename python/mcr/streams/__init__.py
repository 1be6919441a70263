"""The multicast streams of a link: seen on the wire, and announced (SAP, SDP).

`LinkListener` reads frames, `StreamTable` counts them, and `kinds` recognizes what they carry. All
input comes from the network: each table is bounded, and nothing fails on any bytes.
"""

from .listener import LinkListener
from .results import AnnouncedStream, Announcement, LinkReport, LinkStream
from .sdp import SdpError, parse_sdp

__all__ = [
    "AnnouncedStream",
    "Announcement",
    "LinkListener",
    "LinkReport",
    "LinkStream",
    "SdpError",
    "parse_sdp",
]
