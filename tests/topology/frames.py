"""Raw Ethernet frames, built by hand, and what injects them: an AF_PACKET socket, a tap.

And the same without Ethernet, by a TUN device, as those of VPNs.
"""

import fcntl
import os
import select
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self

from tests.support.deadline import wait_until

from .namespaces import Namespace

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
TPID_8021Q = 0x8100
TPID_8021AD = 0x88A8
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x0002, 0x1000, 0x4000
_NEEDS_CSUM, _GSO_UDP_L4 = 1, 5
_VNET_HEADER_BYTES = 10
_ETHERNET_BYTES = 14
_MOST_BYTES = 70_000


def internet_checksum(data: bytes) -> int:
    """The one's complement sum of RFC 1071: a remainder, as 0x10000 leaves 1 by 0xFFFF."""
    number = int.from_bytes(data + bytes(len(data) % 2), "big")
    return 0xFFFF if number == 0 else 0xFFFF - (number % 0xFFFF or 0xFFFF)


@cache
def _address(text: str) -> IPv4Address | IPv6Address:
    return ip_address(text)


def group_mac(group: IPv4Address | IPv6Address) -> bytes:
    """The Ethernet address of a group (RFC 1112, section 6.4; RFC 2464, section 7)."""
    if isinstance(group, IPv6Address):
        return b"\x33\x33" + group.packed[-4:]
    return b"\x01\x00\x5e" + (int(group) & 0x7FFFFF).to_bytes(3, "big")


@dataclass(frozen=True, slots=True)
class Flow:
    """Where injected datagrams come from and go to."""

    source: str
    group: str
    port: int
    source_port: int = 4000


def udp_frame(
    flow: Flow,
    payload: bytes,
    *,
    tags: tuple[tuple[int, int], ...] = (),
    checksum: int | None = None,
    mac: bytes | None = None,
) -> bytes:
    """An Ethernet frame with UDP over IPv4 or IPv6, by the flow's addresses.

    Args:
        flow: addresses and ports.
        payload: the UDP payload.
        tags: VLAN tags from the outside inwards, as (tpid, tci).
        checksum: what to write into the UDP checksum field; None computes the right one.
        mac: the destination MAC address; None takes the one of the group.
    """
    source, group = _address(flow.source), _address(flow.group)
    length = 8 + len(payload)
    ports = struct.pack(">HHH", flow.source_port, flow.port, length)
    if checksum is None:
        # IPv6 writes the length in 32 bits (RFC 8200, 8.1), to the same sum.
        pseudo = source.packed + group.packed + struct.pack(">HH", socket.IPPROTO_UDP, length)
        checksum = internet_checksum(pseudo + ports + b"\0\0" + payload) or 0xFFFF
    if isinstance(group, IPv6Address):
        ethertype, header = ETHERTYPE_IPV6, _ipv6_header(source.packed, group.packed, length)
    else:
        ethertype, header = ETHERTYPE_IPV4, _ipv4_header(source.packed, group.packed, length)
    ethernet = (mac or group_mac(group)) + bytes.fromhex("020000000001")
    for tpid, tci in tags:
        ethernet += struct.pack(">HH", tpid, tci)
    ethernet += struct.pack(">H", ethertype)
    return ethernet + header + ports + struct.pack(">H", checksum) + payload


def _ipv4_header(source: bytes, group: bytes, length: int) -> bytes:
    header = struct.pack(
        ">BBHHHBBH4s4s",
        *(0x45, 0, 20 + length, 0, 0, 8, socket.IPPROTO_UDP, 0),
        *(source, group),
    )
    return header[:10] + struct.pack(">H", internet_checksum(header)) + header[12:]


def _ipv6_header(source: bytes, group: bytes, length: int) -> bytes:
    return struct.pack(">IHBB", 6 << 28, length, socket.IPPROTO_UDP, 8) + source + group


class Injector:
    """Puts frames on the wire of one interface as they are."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        """Open and bind an AF_PACKET socket."""
        with namespace:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.bind((interface, 0))

    def send(self, *frames: bytes) -> None:
        """Send the frames in order."""
        for frame in frames:
            self._socket.send(frame)

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self._socket.close()


class Tap:
    """An interface whose other end is this process, as a virtual machine would be."""

    def __init__(self, namespace: Namespace, name: str, *, gro: bool) -> None:
        """Make the interface, up."""
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        with namespace:
            self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(self._fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        namespace.offload(name, gro=gro)
        namespace.set_up(name, up=True)

    def send(
        self,
        frame: bytes,
        *,
        gso_type: int = 0,
        gso_size: int = 0,
        checksum: tuple[int, int] | None = None,
    ) -> None:
        """Send a frame and say what is left to do in it.

        Args:
            frame: the frame.
            gso_type: what it is to be cut into; then it needs its checksum too.
            gso_size: bytes of payload in each.
            checksum: where its checksum begins, and stands from there; by default UDP's over IPv4.
        """
        needs_checksum = 1 if gso_type or checksum else 0
        start, field = checksum or (34, 6)
        header = (needs_checksum, gso_type, start + 8, gso_size, start, field)
        os.write(self._fd, struct.pack("<BBHHHH", *header) + frame)

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it; the interface goes with it."""
        os.close(self._fd)


class Tun:
    """An interface without a link layer whose other end is this process, as a VPN would be."""

    def __init__(
        self, namespace: Namespace, name: str, *addresses: str, gro: bool = True, mtu: int = 1500
    ) -> None:
        """Make the interface, up, with its own addresses, prefix lengths included."""
        self._namespace, self.name = namespace, name
        flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
        with namespace:
            self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(self._fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        namespace.offload(name, gro=gro)
        namespace.ip("link", "set", name, "mtu", str(mtu), "up")
        namespace.address(name, *addresses)

    def send(self, flow: Flow, *payloads: bytes) -> None:
        """Have datagrams come in, each in a packet of its own."""
        for payload in payloads:
            self.send_packet(udp_packet(flow, payload))

    def send_super(self, flow: Flow, payloads: Sequence[bytes]) -> None:
        """Have datagrams of one size come in as one super-frame."""
        source, group = ip_address(flow.source), ip_address(flow.group)
        joined = b"".join(payloads)
        length = struct.pack(">HH", socket.IPPROTO_UDP, 8 + len(joined))
        pseudo_sum = ~internet_checksum(source.packed + group.packed + length) & 0xFFFF
        headers = 20 if source.version == 4 else 40
        offload = (_NEEDS_CSUM, _GSO_UDP_L4, headers + 8, len(payloads[0]), headers, 6)
        packet = udp_packet(flow, joined, checksum=pseudo_sum)
        os.write(self._fd, struct.pack("<BBHHHH", *offload) + packet)

    def send_packet(self, packet: bytes) -> None:
        """Have an IP packet come in as it is."""
        os.write(self._fd, bytes(_VNET_HEADER_BYTES) + packet)

    def expect_each(self, wanted: Mapping[int, Sequence[bytes]]) -> dict[int, list[bytes]]:
        """Wait until exactly these datagrams have left for each port; give their packets."""
        packets: dict[int, list[bytes]] = {port: [] for port in wanted}

        def are_complete() -> bool:
            while select.select([self._fd], [], [], 0)[0]:
                packet = os.read(self._fd, _MOST_BYTES)[_VNET_HEADER_BYTES:]
                packets.get(udp_port(packet) or 0, []).append(packet)
            return all(len(packets[port]) >= len(sent) for port, sent in wanted.items())

        wait_until(are_complete, what="every datagram has left")
        for port, sent in wanted.items():
            assert [packet[udp_start(packet) + 8 :] for packet in packets[port]] == list(sent)
        return packets

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it; the interface goes with it."""
        os.close(self._fd)


def udp_packet(flow: Flow, payload: bytes, *, checksum: int | None = None) -> bytes:
    """The IP packet of `udp_frame`, which has no Ethernet around it."""
    return udp_frame(flow, payload, checksum=checksum)[_ETHERNET_BYTES:]


def udp_start(packet: bytes) -> int:
    """Where the UDP header of a packet without options or extension headers starts."""
    return 20 if packet[0] >> 4 == 4 else 40


def udp_port(packet: bytes) -> int | None:
    """The destination port of a packet; None if it is not UDP."""
    protocol = packet[9] if packet[0] >> 4 == 4 else packet[6]
    if protocol != socket.IPPROTO_UDP:
        return None
    start = udp_start(packet)
    return int.from_bytes(packet[start + 2 : start + 4], "big")
