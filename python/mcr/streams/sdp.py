"""Session descriptions (SDP, RFC 8866): the multicast streams in them and their source filters.

A description comes from the network or from a file; anything that is not understood is skipped.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

from ..rules.fields import Address
from .results import AnnouncedStream

SDP_LIMIT_BYTES = 64 * 1024
STREAMS_LIMIT = 64
"""The most streams of one description."""
NAME_LIMIT_CHARS = 128
_SOURCES_LIMIT = 64
_MEDIA_WORDS = 4
_FILTER_WORDS = 5
_PORT_LIMIT = 65535


class SdpError(ValueError):
    """A description without a stream that can be relayed; the text says why."""


@dataclass(slots=True)
class _Section:
    """The session, or one of its media."""

    media: str = ""
    port: int = 0
    format: str = ""
    connections: list[Address] = field(default_factory=list)
    filters: list[tuple[str, tuple[Address, ...]]] = field(default_factory=list)
    """The groups of source filters, or ``*``, each with its senders."""
    excludes: bool = False


def parse_sdp(text: str) -> tuple[str, tuple[AnnouncedStream, ...]]:
    """Return the name of the session, and its multicast streams.

    Raises:
        SdpError: it is no description, or has no multicast stream.
    """
    lines = text[:SDP_LIMIT_BYTES].splitlines()
    if not lines or lines[0].strip() != "v=0":
        raise SdpError("is not a session description: it does not begin with v=0")
    name, sections = "", [_Section()]
    for line in lines:
        key, equals, value = line.strip().partition("=")
        if not equals:
            continue
        if key == "s" and not name:
            name = value.strip()[:NAME_LIMIT_CHARS]
        elif key == "m" and len(sections) <= STREAMS_LIMIT:
            sections.append(_media(value))
        elif key == "c":
            sections[-1].connections += _connection(value)
        elif key == "a":
            _read_attribute(value, sections[-1])
    session, *media = sections
    streams = [each for section in media for each in _streams(session, section)]
    if not streams:
        raise SdpError("describes no multicast stream with a port")
    if any(section.excludes for section in sections):
        raise SdpError("excludes sources; a rule can only list those to relay")
    return name, tuple(streams[:STREAMS_LIMIT])


def _media(value: str) -> _Section:
    words = value.split()
    if len(words) < _MEDIA_WORDS:
        return _Section()
    port = words[1].partition("/")[0]
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= len("65535") else 0
    return _Section(words[0][:32], number if number <= _PORT_LIMIT else 0, words[3][:32])


def _connection(value: str) -> list[Address]:
    """The groups of ``IN IP4 239.1.1.1/TTL/COUNT`` or ``IN IP6 ff15::1/COUNT``."""
    words = value.split()
    if len(words) != len(("IN", "IP4", "address")) or words[0] != "IN":
        return []
    first, *rest = words[2].split("/")
    address = _address(first)
    if address is None or not address.is_multicast:
        return []
    counts = rest[1:] if words[1] == "IP4" else rest
    count = int(counts[0]) if counts and counts[0].isascii() and counts[0].isdigit() else 1
    try:
        return [address + number for number in range(min(count, STREAMS_LIMIT))]
    except ValueError:  # beyond the last address
        return [address]


def _read_attribute(value: str, section: _Section) -> None:
    name, _, rest = value.partition(":")
    words = rest.split()
    if name == "source-filter" and len(words) >= _FILTER_WORDS:
        senders = (_address(each) for each in words[4 : 4 + _SOURCES_LIMIT])
        section.excludes |= words[0] == "excl"
        section.filters.append((words[3], tuple(each for each in senders if each is not None)))
    elif name == "rtpmap" and words[0:1] == [section.format] and len(words) > 1:
        section.format = f"{section.format} {words[1][:32]}"


def _streams(session: _Section, media: _Section) -> Iterator[AnnouncedStream]:
    if not media.port:
        return
    for group in media.connections or session.connections:
        senders = [
            sender
            for place, listed in (media.filters or session.filters)
            if place == "*" or _address(place) == group
            for sender in listed
            if sender.version == group.version
        ]
        sources = tuple(dict.fromkeys(senders))
        yield AnnouncedStream(group, media.port, media.media, media.format, sources)


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
