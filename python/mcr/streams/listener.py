"""Reads the multicast frames of links by an AF_PACKET socket (packet(7)), which needs CAP_NET_RAW.

While it is open, the interfaces receive all multicast, and the groups of announcements are joined.
A switch still sends only the groups that some host behind the port has joined, and its own.
"""

import ctypes
import errno
import select
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Self

from .. import _native
from ..errors import InterfaceError, RightsError
from ..rules.fields import Address
from . import sap
from .results import LinkReport
from .table import StreamTable

_BUFFER_BYTES = 32 << 20
_FRAME_BYTES = 128 * 1024
_VNET_BYTES = 10
_CONTROL_BYTES = 128
_BATCH = 256
"""Frames between two looks at the clock."""
_ETHERNET = (1, 772)  # ARPHRD_ETHER and ARPHRD_LOOPBACK, which has the same header
_AUXDATA = struct.Struct("=IIIHHHH")
_VLAN_VALID = 0x10

_SOL_PACKET = 263
_ADD_MEMBERSHIP, _STATISTICS, _AUXILIARY, _VNET_HEADER = 1, 6, 8, 15
_ALLMULTI = 2
_ETH_P_ALL = 3
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_IPV6_JOIN_GROUP = 20

_NETWORK, _PACKET_TYPE = 0xFFF00000, 0xFFFFF004  # SKF_NET_OFF, and SKF_AD_OFF + SKF_AD_PKTTYPE
_LD_WORD, _LD_BYTE, _SHIFT, _AND, _EQUAL, _RETURN = 0x20, 0x30, 0x74, 0x54, 0x15, 0x06
_FILTER = (
    (_LD_WORD, 0, 0, _PACKET_TYPE),
    (_EQUAL, 11, 0, 4),  # PACKET_OUTGOING: sent by this host
    (_LD_BYTE, 0, 0, _NETWORK),
    (_SHIFT, 0, 0, 4),
    (_EQUAL, 0, 5, 4),
    (_LD_BYTE, 0, 0, _NETWORK + 9),
    (_EQUAL, 0, 6, socket.IPPROTO_UDP),
    (_LD_BYTE, 0, 0, _NETWORK + 16),
    (_AND, 0, 0, 0xF0),
    (_EQUAL, 4, 3, 0xE0),
    (_EQUAL, 0, 2, 6),
    (_LD_BYTE, 0, 0, _NETWORK + 24),
    (_EQUAL, 1, 0, 0xFF),
    (_RETURN, 0, 0, 0),
    (_RETURN, 0, 0, 0xFFFFFFFF),
)
"""UDP over IPv4 to a group, and all of IPv6 to a group, except what this host sends."""


class LinkListener:
    """The multicast of some interfaces, from its creation on."""

    def __init__(self, interfaces: Sequence[str] = ()) -> None:
        """Open the sockets.

        Args:
            interfaces: their names; by default all that are up.

        Raises:
            RightsError: CAP_NET_RAW is missing.
            InterfaceError: there is no such interface, or the kernel refuses.
        """
        found = {
            name: each for each in _native.interfaces() for name in (each.name, *each.altnames)
        }
        for name in interfaces:
            if name not in found:
                raise InterfaceError(f"there is no interface {name!r}")
        chosen = [found[name] for name in interfaces] or [
            each for each in {each.index: each for each in found.values()}.values() if each.up
        ]
        self._table, self._announcements = StreamTable(), sap.AnnouncementTable()
        self._unreadable = self._missed = 0
        self._stack = ExitStack()
        self._sockets: list[socket.socket] = []
        try:
            for each in chosen:
                opened = self._stack.enter_context(_packet_socket())
                opened.bind((each.name, _ETH_P_ALL))
                self._receive_all(opened, each.index)
                self._join_announcements(each.index)
                self._sockets.append(opened)
        except RightsError:
            self._stack.close()
            raise
        except OSError as error:
            self._stack.close()
            names = ", ".join(each.name for each in chosen)
            raise InterfaceError(f"listening on {names}: {error.strerror}") from None
        except BaseException:
            self._stack.close()
            raise
        self._began_s = time.monotonic()

    def listen(self, seconds: float) -> LinkReport:
        """Listen for so long; return all that was seen since the listener was opened."""
        ends_s = time.monotonic() + seconds
        buffer = bytearray(_FRAME_BYTES)
        while (left_s := ends_s - time.monotonic()) > 0:
            for ready in select.select(self._sockets, [], [], left_s)[0]:
                self._read_batch(ready, buffer)
        return self._report()

    def close(self) -> None:
        """Close the sockets."""
        self._stack.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _read_batch(self, ready: socket.socket, buffer: bytearray) -> None:
        for _ in range(_BATCH):
            try:
                length, control, _, address = ready.recvmsg_into(
                    [buffer], _CONTROL_BYTES, socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.ENETDOWN, errno.EINTR):
                    return
                raise
            self._count(bytes(buffer[:length]), control, address[0], address[3])

    def _count(
        self, data: bytes, control: list[tuple[int, int, bytes]], name: str, link: int
    ) -> None:
        auxiliary = next((value for *_, value in control if len(value) >= _AUXDATA.size), None)
        if auxiliary is None:
            self._unreadable += 1
            return
        status, *_, mac, network, tci, _ = _AUXDATA.unpack_from(auxiliary)
        offset = None if link in _ETHERNET else max(0, network - mac)
        parsed = _native.parse_captured(data[_VNET_BYTES:], offset, verify=False)
        if isinstance(parsed, _native.Discard):
            self._unreadable += 1
            return
        vlan = tci & 0xFFF if status & _VLAN_VALID else parsed.vlan
        (segment_bytes,) = struct.unpack_from("=4xH", data)
        self._table.add(name, vlan, parsed, segment_bytes)
        if parsed.port == sap.PORT:
            self._announcements.add(name, parsed.payload)

    def _report(self) -> LinkReport:
        seconds = max(0.001, time.monotonic() - self._began_s)
        for each in self._sockets:
            packets = each.getsockopt(_SOL_PACKET, _STATISTICS, 8)
            self._missed += struct.unpack("=II", packets)[1]
        announced = self._announcements.all()
        names: dict[tuple[Address, int], str] = {
            (stream.group, stream.port): each.name for each in announced for stream in each.streams
        }
        return LinkReport(
            seconds=round(seconds, 3),
            streams=self._table.streams(seconds, names),
            announcements=announced,
            more_streams=self._table.more,
            unreadable=self._unreadable,
            missed_frames=self._missed,
        )

    def _receive_all(self, opened: socket.socket, index: int) -> None:
        request = struct.pack("=iHH8x", index, _ALLMULTI, 0)
        with suppress(OSError):  # such as an interface without multicast
            opened.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)

    def _join_announcements(self, index: int) -> None:
        """Join the groups of announcements; the sockets receive nothing themselves."""
        four = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        for group in sap.GROUPS[4]:
            request = struct.pack("=4s4si", socket.inet_aton(group), bytes(4), index)
            with suppress(OSError):
                four.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        with suppress(OSError):  # a host without IPv6
            six = self._stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            for group in sap.GROUPS[6]:
                request = struct.pack("=16si", socket.inet_pton(socket.AF_INET6, group), index)
                with suppress(OSError):
                    six.setsockopt(socket.IPPROTO_IPV6, _IPV6_JOIN_GROUP, request)


def _packet_socket() -> socket.socket:
    """An AF_PACKET socket with the filter, which receives nothing before that is attached."""
    try:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError:
        raise RightsError(
            "listening to all streams of a link needs CAP_NET_RAW: run it as root"
        ) from None
    program = b"".join(struct.pack("=HBBI", *each) for each in _FILTER)
    held = ctypes.create_string_buffer(program)
    request = struct.pack("HL", len(_FILTER), ctypes.addressof(held))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, request)
    opened.setsockopt(_SOL_PACKET, _VNET_HEADER, 1)
    opened.setsockopt(_SOL_PACKET, _AUXILIARY, 1)
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    except OSError:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    return opened
