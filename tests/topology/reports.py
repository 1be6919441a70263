"""What a network hears of memberships: IGMP and MLD as they come out of the other end of a link."""

import errno
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from tests.support.deadline import wait_until

from .checks import DEADLINE_S
from .namespaces import Namespace

_ETH_P_ALL = 3
_PACKET_OUTGOING = 4
_IPV6_HOP_BY_HOP = 0
_IGMP = 2
_ICMPV6 = 58
_V2_KINDS = {0x11: "query", 0x16: "member", 0x17: "leave"}
_V3_REPORT = 0x22
_MLDV2_REPORT = 143
# RFC 3376, 4.2.12 and RFC 3810, 5.2.12: current state, a change of the filter, of its sources.
_KINDS = {1: "is_in", 2: "is_ex", 3: "to_in", 4: "to_ex", 5: "allow", 6: "block"}


@dataclass(frozen=True, slots=True)
class Record:
    """What is said of one group. A change is said twice, as one report may be lost."""

    kind: str
    group: str
    sources: frozenset[str] = frozenset()

    @property
    def is_leave(self) -> bool:
        """Whether a switch may take the group, or a source of it, away from the port."""
        return self.kind in ("leave", "block") or (self.kind == "to_in" and not self.sources)


class Reports:
    """Hears the reports that come out of an interface, in their order."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        """Listen from now on."""
        with namespace:
            kind = socket.htons(_ETH_P_ALL)
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, kind)
            self._socket.bind((interface, _ETH_P_ALL))
        self._socket.setblocking(False)
        self.all: list[Record] = []

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self._socket.close()

    def hear(self, group: str, wait_s: float = 0.0) -> list[Record]:
        """What was said of a group so far, with all that comes within this time."""
        deadline = time.monotonic() + wait_s
        while select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                packet, (_, _, direction, _, _) = self._socket.recvfrom(65535)
            except OSError as error:
                if error.errno != errno.ENETDOWN:
                    raise
                continue  # It goes on when the interface is up again.
            if direction != _PACKET_OUTGOING:
                self.all.extend(_records(packet))
        return [record for record in self.all if record.group == group]

    def wait_for(self, record: Record, *, times: int = 1, seconds: float = DEADLINE_S) -> None:
        """Wait until this has been said, so often."""

        def said() -> bool:
            return self.hear(record.group).count(record) >= times

        wait_until(said, seconds, what=str(record))

    def forget(self) -> None:
        """Discard the reports so far."""
        self.hear("")
        self.all.clear()


def _records(packet: bytes) -> Iterator[Record]:
    if packet[0] >> 4 == 4 and packet[9] == _IGMP:
        message = packet[(packet[0] & 15) * 4 :]
        if message[0] in _V2_KINDS:
            yield Record(_V2_KINDS[message[0]], str(IPv4Address(message[4:8])))
        if message[0] == _V3_REPORT:
            yield from _listed(message, IPv4Address, 4)
    if packet[0] >> 4 == 6 and packet[6] == _IPV6_HOP_BY_HOP and packet[40] == _ICMPV6:
        message = packet[48 + packet[41] * 8 :]
        if message[0] == _MLDV2_REPORT:
            yield from _listed(message, IPv6Address, 16)


def _listed(
    message: bytes, address: type[IPv4Address] | type[IPv6Address], size: int
) -> Iterator[Record]:
    at = 8
    for _ in range(struct.unpack_from("!H", message, 6)[0]):
        kind, auxiliary, count = struct.unpack_from("!BBH", message, at)
        first = at + 4 + size
        starts = range(first, first + count * size, size)
        sources = frozenset(str(address(message[start : start + size])) for start in starts)
        yield Record(_KINDS[kind], str(address(message[at + 4 : first])), sources)
        at = first + count * size + auxiliary * 4
