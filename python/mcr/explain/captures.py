"""A reader of capture files, pcap and pcapng, from a stream that may hold any bytes.

It keeps one block in memory, of a bounded size, and reads no more of a capture than frames and the
names of interfaces. Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

FRAME_LIMIT_BYTES = 256 * 1024
"""The largest frame: what capture programs write at most."""
_BLOCK_LIMIT_BYTES = FRAME_LIMIT_BYTES + 256 * 1024  # with comments
_INTERFACES_LIMIT = 4096
_SKIP_BYTES = 64 * 1024
_RECORD_BYTES = 16  # before each frame of pcap
_WORD_BYTES = 4
_EMPTY_BLOCK_BYTES = 12

_MAGICS: dict[bytes, str] = {  # of microseconds and of nanoseconds, in either byte order
    bytes.fromhex("a1b2c3d4"): ">",
    bytes.fromhex("d4c3b2a1"): "<",
    bytes.fromhex("a1b23c4d"): ">",
    bytes.fromhex("4d3cb2a1"): "<",
}
_SECTION = bytes.fromhex("0a0d0d0a")  # alike in both byte orders
_ORDERS = {bytes.fromhex("1a2b3c4d"): ">", bytes.fromhex("4d3c2b1a"): "<"}
_INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED = 1, 2, 3, 6
_OPTION_END = 0
_OPTION_NAME, _OPTION_FLAGS = 2, 2  # of an interface, of a frame
_DIRECTION, _OUTBOUND = 3, 2

_ETHERNET = 1
_NETWORK_OFFSETS: dict[int, int | None] = {
    _ETHERNET: None,
    0: 4,  # BSD loopback
    108: 4,  # the same in network order
    12: 0,  # raw IP, as some systems number it
    101: 0,
    228: 0,
    229: 0,
    113: 16,  # Linux cooked, as of tcpdump -i any
    276: 20,
}
"""For each link type, the offset of the IP header; None if the frame itself says it."""


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """A frame of a capture."""

    data: bytes
    is_whole: bool
    """Whether all of its bytes were captured."""
    interface: str | None
    """The name of its interface, if the capture has it."""
    network: int | None
    """The offset of its IP header in bytes; None for an Ethernet frame."""
    is_outbound: bool = False
    """Whether the capture says that the host which made it sent the frame."""


def read_capture(stream: BinaryIO) -> Iterator[CapturedFrame]:
    """Yield the frames of a capture, one at a time.

    Raises:
        ValueError: it is no capture, is damaged, or has another link type; the text says where.
        OSError: it cannot be read.
    """
    magic = stream.read(4)
    if magic in _MAGICS:
        yield from _read_pcap(stream, _MAGICS[magic])
    elif magic == _SECTION:
        yield from _PcapngReader(stream).frames()
    else:
        raise ValueError("is not a capture: it begins neither as pcap nor as pcapng")


def _read_pcap(stream: BinaryIO, order: str) -> Iterator[CapturedFrame]:
    (link,) = struct.unpack(f"{order}16xI", _exactly(stream, 20, "its header"))
    network = _network_of(link & 0xFFFF)  # the upper bits are flags
    number = 0
    while start := stream.read(1):
        number += 1
        head = start + _exactly(stream, _RECORD_BYTES - 1, f"frame {number}")
        captured, original = struct.unpack(f"{order}8xII", head)
        data = _frame(stream, captured, number)
        yield _captured(data, original, None, network)


class _PcapngReader:
    """The state of one section: its byte order and its interfaces."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._order = ">"
        self._interfaces: list[tuple[str | None, int, int]] = []
        self._number = 0

    def frames(self) -> Iterator[CapturedFrame]:
        kind_bytes = _SECTION
        while kind_bytes:
            if kind_bytes == _SECTION:
                self._begin_section()
            else:
                (kind,) = struct.unpack(f"{self._order}I", kind_bytes)
                (length,) = struct.unpack(f"{self._order}I", self._exactly(_WORD_BYTES))
                frame = self._block(kind, self._checked(length) - _EMPTY_BLOCK_BYTES)
                self._exactly(_WORD_BYTES)
                if frame is not None:
                    yield frame
            start = self._stream.read(1)
            kind_bytes = start + self._exactly(_WORD_BYTES - 1) if start else b""

    def _begin_section(self) -> None:
        length_bytes, mark = self._exactly(_WORD_BYTES), self._exactly(_WORD_BYTES)
        if mark not in _ORDERS:
            raise ValueError("has a section whose byte order is neither of the two")
        self._order, self._interfaces = _ORDERS[mark], []
        (length,) = struct.unpack(f"{self._order}I", length_bytes)
        self._skip(self._checked(length) - _EMPTY_BLOCK_BYTES)

    def _block(self, kind: int, length: int) -> CapturedFrame | None:
        if kind not in (_INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED):
            self._skip(length)
            return None
        if length > _BLOCK_LIMIT_BYTES:
            raise ValueError(f"has a block of {length} bytes, more than {_BLOCK_LIMIT_BYTES}")
        body = self._exactly(length)
        try:
            if kind == _INTERFACE:
                self._add_interface(body)
                return None
            self._number += 1
            return self._packet(kind, body)
        except struct.error:
            raise ValueError(f"has a block that is too short, after frame {self._number}") from None

    def _add_interface(self, body: bytes) -> None:
        if len(self._interfaces) == _INTERFACES_LIMIT:
            raise ValueError(f"has more than {_INTERFACES_LIMIT} interfaces")
        link, snap_bytes = struct.unpack_from(f"{self._order}HxxI", body)
        name = self._option(body[8:], _OPTION_NAME)
        text = None if name is None else name.rstrip(b"\0").decode(errors="replace")
        self._interfaces.append((text, link, snap_bytes))

    def _option(self, options: bytes, wanted: int) -> bytes | None:
        while len(options) >= _WORD_BYTES:
            code, length = struct.unpack_from(f"{self._order}HH", options)
            if code == _OPTION_END:
                return None
            if code == wanted:
                return options[4 : 4 + length]
            options = options[4 + _padded(length) :]
        return None

    def _is_outbound(self, options: bytes) -> bool:
        flags = self._option(options, _OPTION_FLAGS)
        if flags is None or len(flags) != _WORD_BYTES:
            return False
        (bits,) = struct.unpack(f"{self._order}I", flags)
        return bool(bits & _DIRECTION == _OUTBOUND)

    def _packet(self, kind: int, body: bytes) -> CapturedFrame:
        if kind == _ENHANCED:
            which, captured, original = struct.unpack_from(f"{self._order}I8xII", body)
            at = 20
        elif kind == _OLD_PACKET:
            which, captured, original = struct.unpack_from(f"{self._order}H10xII", body)
            at = 20
        else:
            which, at = 0, 4
            (original,) = struct.unpack_from(f"{self._order}I", body)
            captured = min(original, len(body) - at)
        if which >= len(self._interfaces):
            raise ValueError(
                f"has a frame {self._number} of an interface that it does not describe"
            )
        name, link, snap_bytes = self._interfaces[which]
        if kind == _SIMPLE and snap_bytes:
            captured = min(captured, snap_bytes)
        if captured > min(len(body) - at, FRAME_LIMIT_BYTES):
            raise ValueError(f"has a frame {self._number} of {captured} bytes, which do not fit")
        data, network = body[at : at + captured], _network_of(link)
        is_outbound = kind == _ENHANCED and self._is_outbound(body[at + _padded(captured) :])
        return _captured(data, original, name, network, is_outbound=is_outbound)

    def _checked(self, length: int) -> int:
        if length < _EMPTY_BLOCK_BYTES or length % _WORD_BYTES:
            raise ValueError(f"has a block of {length} bytes, after frame {self._number}")
        return length

    def _exactly(self, length: int) -> bytes:
        return _exactly(self._stream, length, f"a block, after frame {self._number}")

    def _skip(self, length: int) -> None:
        while length > 0:
            length -= len(self._exactly(min(length, _SKIP_BYTES)))


def _padded(length: int) -> int:
    return (length + 3) // 4 * 4


def _captured(
    data: bytes,
    original: int,
    interface: str | None,
    network: int | None,
    *,
    is_outbound: bool = False,
) -> CapturedFrame:
    is_whole = original <= len(data)
    if not is_whole:  # zeros stand for the rest: only its length matters
        data = data.ljust(min(original, FRAME_LIMIT_BYTES), b"\0")
    return CapturedFrame(data, is_whole, interface, network, is_outbound)


def _network_of(link: int) -> int | None:
    if link not in _NETWORK_OFFSETS:
        raise ValueError(f"has the link type {link}; Ethernet, Linux cooked and raw IP can be read")
    return _NETWORK_OFFSETS[link]


def _frame(stream: BinaryIO, length: int, number: int) -> bytes:
    if length > FRAME_LIMIT_BYTES:
        raise ValueError(f"has a frame {number} of {length} bytes, more than {FRAME_LIMIT_BYTES}")
    return _exactly(stream, length, f"frame {number}")


def _exactly(stream: BinaryIO, length: int, place: str) -> bytes:
    """Read so many bytes, also from a pipe that delivers them in pieces."""
    data = stream.read(length)
    while len(data) < length and (more := stream.read(length - len(data))):
        data += more
    if len(data) < length:
        raise ValueError(f"ends within {place}")
    return data
