"""A writer of capture files in pcapng (draft-ietf-opsawg-pcapng).

One section; an interface block for each interface of inputs and outputs, before its first frame.
Frames have the direction, a number that copies share with the datagram that they come from
(`epb_packetid`), how many were lost before them (`epb_dropcount`), and comments: the rule, the
output, and the reason of a drop.
"""

import struct
from typing import BinaryIO

from .filter import FRAME_BYTES
from .record import DatagramRecord

_SECTION, _INTERFACE, _ENHANCED = 0x0A0D0D0A, 1, 6
_ORDER_MAGIC, _UNKNOWN_LENGTH = 0x1A2B3C4D, 2**64 - 1
_ETHERNET = 1
_END, _COMMENT = 0, 1
_APPLICATION = 4
_NAME, _DESCRIPTION, _RESOLUTION = 2, 3, 9
_FLAGS, _DROP_COUNT, _PACKET_ID = 2, 4, 5
_INBOUND, _OUTBOUND, _UNICAST, _MULTICAST = 1, 2, 1 << 2, 2 << 2
_WORKER_BITS = 48


class PcapngWriter:
    """Writes records to a stream of bytes."""

    def __init__(self, stream: BinaryIO) -> None:
        """Write the section's header."""
        self._stream = stream
        self._interfaces: dict[str, int] = {}
        self._lost = 0
        body = struct.pack("<IHHQ", _ORDER_MAGIC, 1, 0, _UNKNOWN_LENGTH)
        self._block(_SECTION, body + _options([(_APPLICATION, b"mcr")]))

    def write(self, record: DatagramRecord, lost: int) -> None:
        """Write the frame of a record.

        Args:
            record: what happened to a datagram.
            lost: the number of records that were lost so far.
        """
        interface = self._interface(record)
        is_group = bool(record.frame[:1]) and bool(record.frame[0] & 1)
        direction = _INBOUND if record.is_inbound else _OUTBOUND
        flags = direction | (_MULTICAST if is_group else _UNICAST)
        options = [(_COMMENT, text.encode()) for text in comments(record)]
        options.append((_FLAGS, struct.pack("<I", flags)))
        if lost > self._lost:
            options.append((_DROP_COUNT, struct.pack("<Q", lost - self._lost)))
            self._lost = lost
        number = record.worker << _WORKER_BITS | record.datagram
        options.append((_PACKET_ID, struct.pack("<Q", number)))
        moment = record.arrived_ns or record.time_ns
        head = struct.pack(
            "<IIIII",
            interface,
            moment >> 32,
            moment & 0xFFFFFFFF,
            len(record.frame),
            record.frame_bytes,
        )
        self._block(_ENHANCED, head + _padded(record.frame) + _options(options))

    def _interface(self, record: DatagramRecord) -> int:
        name = record.interface or f"{record.rule_name} output {record.output}"
        if name not in self._interfaces:
            self._interfaces[name] = len(self._interfaces)
            text = "received and sent by mcr" if record.interface else "chosen by the route"
            options = [
                (_NAME, name.encode()),
                (_DESCRIPTION, text.encode()),
                (_RESOLUTION, b"\x09"),
            ]
            body = struct.pack("<HHI", _ETHERNET, 0, FRAME_BYTES)
            self._block(_INTERFACE, body + _options(options))
        return self._interfaces[name]

    def _block(self, kind: int, body: bytes) -> None:
        length = struct.pack("<I", len(body) + 12)
        self._stream.write(struct.pack("<I", kind) + length + body + length)


def comments(record: DatagramRecord) -> list[str]:
    """What a frame cannot show, a comment for each fact."""
    found = []
    if record.rule is not None:
        more = f" and {record.rules - 1} more" if record.rules > 1 else ""
        name = "" if record.rule_name == record.rule else f" ({record.rule_name})"
        found.append(f"rule {record.rule}{name}{more}")
    if record.output is not None:
        found.append(f"output {record.output}: {record.output_text}")
    if record.reason is not None:
        error = f" ({record.error})" if record.error else ""
        found.append(f"dropped: {record.reason}{error}")
    return found


def _options(options: list[tuple[int, bytes]]) -> bytes:
    written = [struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options]
    return b"".join([*written, struct.pack("<HH", _END, 0)])


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
