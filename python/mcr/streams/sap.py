"""Session announcements (SAP, RFC 2974), from any host of the network."""

import zlib
from ipaddress import ip_address

from ..rules.fields import Address
from .results import Announcement
from .sdp import SDP_LIMIT_BYTES, SdpError, parse_sdp

PORT = 9875
GROUPS: dict[int, tuple[str, ...]] = {
    4: ("224.2.127.254", "224.0.0.255", "239.195.255.255", "239.255.255.255"),
    6: ("ff02::2:7ffe", "ff05::2:7ffe", "ff08::2:7ffe", "ff0e::2:7ffe"),
}
"""Where sessions are announced, by IP version: for the world, and within each scope."""
ANNOUNCEMENTS_LIMIT = 1024

_VERSION_MASK, _VERSION = 0xE0, 0x20
_IPV6, _DELETION, _ENCRYPTED, _COMPRESSED = 0x10, 0x04, 0x02, 0x01
_FIXED_BYTES = 4

Key = tuple[str, Address, bytes]
"""Interface, origin and the hash of a message."""


class AnnouncementTable:
    """The sessions that are announced now."""

    def __init__(self) -> None:
        """Know none."""
        self._known: dict[Key, Announcement] = {}

    def all(self) -> tuple[Announcement, ...]:
        """The sessions, in the order in which they were first seen."""
        return tuple(self._known.values())

    def add(self, interface: str, message: bytes) -> None:
        """Read one message; what is not an announcement with a description is skipped."""
        head = message[:_FIXED_BYTES]
        if len(head) < _FIXED_BYTES or head[0] & _VERSION_MASK != _VERSION:
            return
        length = 16 if head[0] & _IPV6 else 4
        origin = message[_FIXED_BYTES : _FIXED_BYTES + length]
        if len(origin) < length or head[0] & _ENCRYPTED:
            return
        key = (interface, ip_address(origin), head[2:4])
        if head[0] & _DELETION:
            self._known.pop(key, None)
            return
        if len(self._known) == ANNOUNCEMENTS_LIMIT and key not in self._known:
            return
        body = message[_FIXED_BYTES + length + 4 * head[1] :]
        text = _description(body, compressed=bool(head[0] & _COMPRESSED))
        try:
            name, streams = parse_sdp(text)
        except SdpError:
            return
        self._known[key] = Announcement(interface, key[1], name, streams, text)


def _description(body: bytes, *, compressed: bool) -> str:
    """The description, behind an optional MIME type."""
    if compressed:
        try:
            body = zlib.decompressobj().decompress(body, SDP_LIMIT_BYTES)
        except zlib.error:
            return ""
    kind, zero, rest = body.partition(b"\0")
    if zero and kind == b"application/sdp":
        body = rest
    return body[:SDP_LIMIT_BYTES].decode(errors="replace")
