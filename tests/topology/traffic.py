"""An independent sender and receiver: plain sockets, nothing of mcr.

Sockets stay in the namespace in which they were opened, so they may be used from anywhere.
"""

import contextlib
import os
import random
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import cycle
from types import TracebackType
from typing import Self

from .checks import DEADLINE_S
from .namespaces import Namespace

BUFFER_BYTES = 256 * 2**20
MAX_DATAGRAM = 65535
CONTROL_BYTES = 128
IPV4 = 4
IP_RECVTTL = 12
IP_MULTICAST_ALL = 49
IPV6_MULTICAST_ALL = 29
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
SO_MEMINFO = 55
MEMINFO_DROPS = 8
UDP_SEGMENT = 103
Address = IPv4Address | IPv6Address


def payloads(count: int, sizes: Sequence[int] = (1400,), *, seed: int = 1) -> list[bytes]:
    """Distinct payloads that go through the sizes in turn; under 8 bytes the number is cut."""
    noise = random.Random(seed).randbytes(MAX_DATAGRAM)
    pieces = [noise[: max(0, size - 8)] for size in sizes]
    return [
        (number.to_bytes(8, "little") + piece)[:size]
        for number, piece, size in zip(range(count), cycle(pieces), cycle(sizes))
    ]


@contextlib.contextmanager
def on_one_processor() -> Iterator[None]:
    """Keep the calling thread on one processor, always the same.

    A veth without GRO hands over on the processor that sends, so a sender that moves while one
    of them is behind would reorder its own traffic.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


class _Socket:
    """A UDP socket of a namespace, closed with the block."""

    def __init__(self, namespace: Namespace, address: str) -> None:
        self.address = ip_address(address)
        self.family = socket.AF_INET if self.address.version == 4 else socket.AF_INET6
        with namespace:
            self.socket = socket.socket(self.family, socket.SOCK_DGRAM)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Sender(_Socket):
    """Sends to one group or host from one interface."""

    def __init__(
        self,
        namespace: Namespace,
        interface: str,
        address: str,
        port: int,
        *,
        source: tuple[str, int] | None = None,
    ) -> None:
        """Open a socket that sends out of the interface, from a chosen source if one is given."""
        super().__init__(namespace, address)
        index = namespace.ifindex(interface)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES)
        if isinstance(self.address, IPv4Address):
            choice = struct.pack("4s4si", bytes(4), bytes(4), index)
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, choice)
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if address == "255.255.255.255":
                device = interface.encode() + b"\0"
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        else:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 8)
        if source:
            self.socket.bind(source)
        scope = (0, index) if self.address.version == 6 and self.address.is_link_local else ()
        self.socket.connect((address, port, *scope))

    def send(self, datagrams: Iterable[bytes]) -> None:
        """Send them one by one."""
        with on_one_processor():
            for datagram in datagrams:
                self.socket.send(datagram)

    def send_super(self, datagrams: Sequence[bytes], batch: int = 20) -> None:
        """Send datagrams of one size as super-frames of ``batch`` segments each."""
        size = len(datagrams[0])
        assert all(len(datagram) == size for datagram in datagrams)
        control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))]
        with on_one_processor():
            for start in range(0, len(datagrams), batch):
                self.socket.sendmsg(datagrams[start : start + batch], control)

    def refusal(self) -> int:
        """The pending error of the socket: what the network answered to the sender, or 0."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


class Receiver(_Socket):
    """Collects the datagrams of one group on one interface, or of one unicast address."""

    def __init__(self, namespace: Namespace, interface: str, address: str, port: int) -> None:
        """Bind to the address itself and, for a group, join it by interface index."""
        super().__init__(namespace, address)
        self.collected: list[bytes] = []
        self.sources: list[tuple[str, int]] = []
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0"
        )
        self.socket.bind((address, port))
        if self.address.is_multicast:
            self._join(namespace.ifindex(interface))
        self.socket.setblocking(False)

    def _join(self, index: int) -> None:
        if isinstance(self.address, IPv4Address):
            request = struct.pack("4s4si", self.address.packed, bytes(4), index)
            self.socket.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        else:
            request = struct.pack("16si", self.address.packed, index)
            self.socket.setsockopt(socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)

    def drain(self) -> list[bytes]:
        """Take what has arrived, without waiting; return everything collected so far."""
        while True:
            try:
                datagram, source = self.socket.recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                return self.collected
            self.collected.append(datagram)
            self.sources.append(source[:2])

    def wait_for(self, count: int, seconds: float = DEADLINE_S) -> list[bytes]:
        """Wait until at least ``count`` datagrams are collected; fail after ``seconds``."""
        deadline = time.monotonic() + seconds
        while len(self.drain()) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"{len(self.collected)} of {count} datagrams in {seconds} s")
            select.select([self.socket], [], [], left)
        return self.collected

    def wait_for_payload(self, last: bytes) -> list[bytes]:
        """Wait until this payload has been collected, and return everything."""
        looked_at = 0
        while last not in self.collected[looked_at:]:
            looked_at = len(self.collected)
            self.wait_for(looked_at + 1)
        return self.collected

    def expect(self, datagrams: Sequence[bytes]) -> None:
        """Wait for exactly these datagrams, in this order, byte for byte."""
        try:
            self.wait_for(len(datagrams))
        except AssertionError as error:
            text = f"{error}; {self._difference(datagrams)}; this socket lost {self.lost()}"
            raise AssertionError(text) from None
        assert self.collected == list(datagrams), self._difference(datagrams)
        assert self.lost() == 0, "the test's own receiver lost datagrams"

    def lost(self) -> int:
        """How many datagrams this socket's own buffer could not take."""
        words = self.socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 64)
        drops: int = struct.unpack_from("=I", words, 4 * MEMINFO_DROPS)[0]
        return drops

    def forget(self) -> None:
        """Drop what was collected."""
        self.drain()
        self.collected.clear()
        self.sources.clear()

    def _difference(self, expected: Sequence[bytes]) -> str:
        for index, (got, want) in enumerate(zip(self.collected, expected, strict=False)):
            if got != want:
                return (
                    f"datagram {index} of {len(expected)} differs: got {len(got)} bytes "
                    f"{got[:8].hex()}, expected {len(want)} bytes {want[:8].hex()}"
                )
        return f"got {len(self.collected)}, expected {len(expected)}, equal as far as both go"


@dataclass(frozen=True, slots=True)
class Marks:
    """The fields of an IP header besides the addresses."""

    ttl: int
    dscp: int
    ecn: int = 0


class MarkedReceiver(Receiver):
    """A receiver that also reads IP headers."""

    def __init__(self, namespace: Namespace, interface: str, address: str, port: int) -> None:
        """Have the kernel tell the headers with each datagram."""
        super().__init__(namespace, interface, address, port)
        self.marks: list[Marks] = []
        if self.address.version == IPV4:
            names = [(socket.IPPROTO_IP, IP_RECVTTL), (socket.IPPROTO_IP, socket.IP_RECVTOS)]
        else:
            level = socket.IPPROTO_IPV6
            names = [(level, socket.IPV6_RECVHOPLIMIT), (level, socket.IPV6_RECVTCLASS)]
        for level, name in names:
            self.socket.setsockopt(level, name, 1)

    def drain(self) -> list[bytes]:
        """Take what has arrived, without waiting; return everything collected so far."""
        while True:
            try:
                datagram, control, _, source = self.socket.recvmsg(MAX_DATAGRAM, CONTROL_BYTES)
            except BlockingIOError:
                return self.collected
            ttl, traffic_class = (int.from_bytes(value, sys.byteorder) for *_, value in control)
            self.collected.append(datagram)
            self.sources.append(source[:2])
            self.marks.append(Marks(ttl, traffic_class >> 2, traffic_class & 3))


class PacedFlow:
    """A thread that sends numbered datagrams at a steady rate until it is stopped."""

    def __init__(self, sender: Sender, rate_pps: int, size: int = 200) -> None:
        """Prepare a flow; it starts with the block."""
        self.sent: list[bytes] = []
        self.rate_pps = rate_pps
        self._sender = sender
        self._size = size
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._elapsed_s = 0.0

    def __enter__(self) -> Self:
        """Start sending."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sending and wait for the thread."""
        self.stop()

    def stop(self) -> None:
        """Stop before the end of the block; what was sent is known then."""
        self._stop.set()
        self._thread.join()

    def achieved_pps(self) -> float:
        """The mean rate over the whole flow, after its end."""
        return len(self.sent) / self._elapsed_s

    def advance(self, count: int) -> None:
        """Wait until this many more datagrams have been sent."""
        until = len(self.sent) + count
        deadline = time.monotonic() + DEADLINE_S
        while len(self.sent) < until:
            assert time.monotonic() < deadline, "the flow does not advance"
            time.sleep(1 / self.rate_pps)

    def _run(self) -> None:
        with on_one_processor():
            self._send_until_stopped()

    def _send_until_stopped(self) -> None:
        start = time.monotonic()
        tail = bytes(self._size - 8)
        while not self._stop.is_set():
            due = int((time.monotonic() - start) * self.rate_pps) + 1
            while len(self.sent) < due:
                datagram = len(self.sent).to_bytes(8, "little") + tail
                self.sent.append(datagram)  # First, lest it arrive before it is known.
                self._sender.socket.send(datagram)
            self._stop.wait(0.001)
        self._elapsed_s = time.monotonic() - start


class NumberedReceiver(Receiver):
    """Checks the numbers of a `PacedFlow` in a thread, at any rate: it keeps no datagram."""

    def __init__(self, namespace: Namespace, interface: str, address: str, port: int) -> None:
        """Prepare the thread; it starts with the block."""
        super().__init__(namespace, interface, address, port)
        self._next = 0
        self._wrong: list[tuple[int, int]] = []
        """Numbers that were expected, each with the one that came instead."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        """Start receiving."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop receiving."""
        self._stop.set()
        self._thread.join()
        self.close()

    def expect_all(self, flow: PacedFlow) -> None:
        """Wait until everything that a flow has sent has arrived, once and in order."""
        deadline = time.monotonic() + DEADLINE_S
        while self._next < len(flow.sent) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (self._next, self._wrong[:9]) == (len(flow.sent), [])
        assert self.lost() == 0, "the test's own receiver lost datagrams"

    def _run(self) -> None:
        while not self._stop.is_set():
            select.select([self.socket], [], [], 0.05)
            with contextlib.suppress(BlockingIOError):
                while True:
                    number = int.from_bytes(self.socket.recv(MAX_DATAGRAM)[:8], "little")
                    if number != self._next:
                        self._wrong.append((self._next, number))
                    self._next = number + 1
