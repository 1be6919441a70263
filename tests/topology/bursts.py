"""Bursts of frames as fast as one core can put them on a link, and frames as a link carries them.

Frames leave through a transmit ring (packet_mmap): one system call sends all of them, so that a
relay finds many at once whatever else the machine does.
"""

import errno
import mmap
import random
import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import Self

from .checks import DEADLINE_S
from .frames import Flow, internet_checksum, udp_frame, udp_start
from .namespaces import Namespace
from .traffic import BUFFER_BYTES, MAX_DATAGRAM, SO_RCVBUFFORCE, Marks

_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_PACKET_VERSION = 10
_PACKET_TX_RING = 13
_TPACKET_V2 = 1
_SLOTS = 256
_SLOT_BYTES = 2048
_BLOCK_BYTES = 64 * 1024
_HEADER = struct.Struct("=III20x")  # struct tpacket2_hdr: status, length, captured length
_SEND_REQUEST = 1
_ETH_P_ALL = 3
_ETHERNET_BYTES = 14
_CHECKSUM_UNFINISHED = 1 << 3  # TP_STATUS_CSUMNOTREADY
SMALLEST, LARGEST = 60, 400


def mixed_payloads(count: int, *, seed: int = 1) -> list[bytes]:
    """Numbered payloads with sizes between 60 and 400 bytes, such as those of market data."""
    chance = random.Random(seed)
    noise = chance.randbytes(LARGEST)
    sizes = chance.choices(range(SMALLEST, LARGEST + 1), k=count)
    return [number.to_bytes(8, "little") + noise[8:size] for number, size in enumerate(sizes)]


class BurstSender:
    """Sends frames out of one interface, up to 256 with one system call."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        """Open a socket with a transmit ring."""
        with namespace:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        blocks = _SLOTS * _SLOT_BYTES // _BLOCK_BYTES
        request = struct.pack("=IIII", _BLOCK_BYTES, blocks, _SLOT_BYTES, _SLOTS)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_TX_RING, request)
        with namespace:
            self._socket.bind((interface, 0))
        self._ring = mmap.mmap(self._socket.fileno(), _SLOTS * _SLOT_BYTES)
        self._next = 0

    def send(self, frames: Sequence[bytes]) -> None:
        """Send the frames in order; returns once the kernel has taken all of them."""
        for start in range(0, len(frames), _SLOTS):
            for frame in frames[start : start + _SLOTS]:
                at = self._next * _SLOT_BYTES
                self._ring[at + _HEADER.size : at + _HEADER.size + len(frame)] = frame
                self._ring[at : at + _HEADER.size] = _HEADER.pack(_SEND_REQUEST, len(frame), 0)
                self._next = (self._next + 1) % _SLOTS
            self._socket.send(b"")

    def send_mixed(self, datagrams: Iterable[tuple[Flow, bytes]]) -> None:
        """Send datagrams, each with its flow."""
        self.send([udp_frame(flow, payload) for flow, payload in datagrams])

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self._ring.close()
        self._socket.close()


@dataclass(frozen=True, slots=True)
class SeenDatagram:
    """A datagram as it came over a link, with what its headers say."""

    payload: bytes
    source: tuple[str, int]
    destination: tuple[str, int]
    macs: tuple[bytes, bytes]
    """Destination and source."""
    marks: Marks
    has_checksums: bool
    """Whether all checksums are there and right; a veth does not finish that of UDP."""


class LinkReceiver:
    """Collects the UDP datagrams to some ports that come over a link, as frames."""

    def __init__(self, namespace: Namespace, interface: str, ports: Iterable[int]) -> None:
        """Open an AF_PACKET socket."""
        self._ports = frozenset(ports)
        self.seen: list[SeenDatagram] = []
        with namespace:
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)
            )
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            self._socket.bind((interface, _ETH_P_ALL))
        self._socket.setblocking(False)

    def drain(self) -> list[SeenDatagram]:
        """Take what has come, without waiting; return everything so far."""
        while True:
            try:
                frame, control, _, sender = self._socket.recvmsg(MAX_DATAGRAM, 128)
            except BlockingIOError:
                return self.seen
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # which is told once
                    raise
                continue
            if sender[2] == socket.PACKET_OUTGOING:
                continue
            status = struct.unpack_from("=I", control[0][2])[0]
            datagram = _read(frame, is_finished=not status & _CHECKSUM_UNFINISHED)
            if datagram is not None and datagram.destination[1] in self._ports:
                self.seen.append(datagram)

    def wait_for(self, count: int, seconds: float = DEADLINE_S) -> list[SeenDatagram]:
        """Wait until at least ``count`` datagrams have come; fail after ``seconds``."""
        deadline = time.monotonic() + seconds
        while len(self.drain()) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"{len(self.seen)} of {count} datagrams in {seconds} s")
            select.select([self._socket], [], [], left)
        return self.seen

    def forget(self) -> None:
        """Drop what has come."""
        self.drain()
        self.seen.clear()

    def payloads(self, port: int) -> list[bytes]:
        """The payloads to one port, in the order of their arrival."""
        return [each.payload for each in self.drain() if each.destination[1] == port]

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self._socket.close()


@cache
def _text_of(address: bytes) -> str:
    return str(ip_address(address))


def _read(frame: bytes, *, is_finished: bool) -> SeenDatagram | None:
    """The datagram in a frame; None for anything but UDP without options and fragments."""
    packet = frame[_ETHERNET_BYTES:]
    is_v4 = frame[12:14] == b"\x08\x00"
    if not is_v4 and frame[12:14] != b"\x86\xdd":
        return None
    if (packet[9] if is_v4 else packet[6]) != socket.IPPROTO_UDP or (is_v4 and packet[0] != 0x45):
        return None
    start = udp_start(packet)
    addresses = packet[12:20] if is_v4 else packet[8:40]
    half = len(addresses) // 2
    source_port, port, length = struct.unpack_from(">HHH", packet, start)
    udp = packet[start : start + length]
    pseudo = addresses + struct.pack(">HH", socket.IPPROTO_UDP, length)
    is_udp_right = udp[6:8] != bytes(2) and internet_checksum(pseudo + udp) == 0
    is_ip_right = not is_v4 or internet_checksum(packet[:20]) == 0
    traffic_class = packet[1] if is_v4 else (packet[0] & 15) << 4 | packet[1] >> 4
    return SeenDatagram(
        payload=udp[8:],
        source=(_text_of(addresses[:half]), source_port),
        destination=(_text_of(addresses[half:]), port),
        macs=(frame[:6], frame[6:12]),
        marks=Marks(packet[8] if is_v4 else packet[7], traffic_class >> 2, traffic_class & 3),
        has_checksums=is_finished and is_ip_right and is_udp_right,
    )
