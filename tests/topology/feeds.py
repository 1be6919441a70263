"""Two feeds of the same datagrams, over IPv4 and IPv6, that a rule merges into one."""

import struct
import time
from collections.abc import Sequence
from typing import Self

import mcr

from .lab import Lab

A = ("239.1.90.1", "s0", "in0")
B = ("ff3e::90:2", "s1", "big")
PORT = 5001
OUT = "239.2.90.1%out0:6001"
RULE = f"{A[0]}%{A[2]}:{PORT} + {B[0]}%{B[2]}:{PORT},name=pair,merge=rtp to {OUT}"


def rtp(number: int, *, start: int = 65_000) -> bytes:
    """An RTP packet; its numbers wrap on the way."""
    return struct.pack(">BBHII", 0x80, 96, (start + number) % 65_536, number, 77) + bytes(60)


def number_of(payload: bytes) -> int:
    """The number of a packet, from its time stamp."""
    number: int = struct.unpack_from(">I", payload, 4)[0]
    return number


def mold(number: int) -> bytes:
    """A MoldUDP64 packet with one message."""
    return b"SESSION-90" + struct.pack(">QHHI", 1 + number, 1, 4, number)


def counted(number: int) -> bytes:
    """A counter behind four other bytes, least significant byte first."""
    return b"HEAD" + struct.pack("<I", 0xFFFF_FF00 + number & 0xFFFF_FFFF) + bytes(20)


class Feeds:
    """A sender of each feed, and the receiver of the merged one."""

    def __init__(self, lab: Lab) -> None:
        """Open the sockets."""
        self.senders = [lab.sender(g, PORT, interface=i) for g, i, _ in (A, B)]
        self.receiver = lab.receive("239.2.90.1", 6001)
        self.next = 0
        self.ticked = [0, 0]

    def send(self, leg: int, numbers: Sequence[int], *, start: int = 65_000) -> None:
        """Send packets with these numbers on one feed."""
        self.senders[leg].send([rtp(number, start=start) for number in numbers])

    def tick(self, *legs: int, count: int, interval_s: float = 0.01) -> range:
        """Send the next packets on these feeds, one each interval, and return their numbers.

        On the second feed each is a fifth of the interval later.
        """
        numbers = range(self.next, self.next + count)
        self.next += count
        begin_s = time.monotonic()
        for place, number in enumerate(numbers):
            for leg in sorted(legs):
                due_s = begin_s + (place + leg / 5) * interval_s
                time.sleep(max(0.0, due_s - time.monotonic()))
                self.send(leg, [number])
                self.ticked[leg] += 1
        time.sleep(max(0.0, begin_s + count * interval_s - time.monotonic()))
        return numbers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for end in (*self.senders, self.receiver):
            end.close()


def merge_of(stats: mcr.Stats) -> mcr.MergeStats:
    """The statistics of the inputs of the only rule."""
    merge = stats.rules[0].merge
    assert merge is not None
    return merge


def received(stats: mcr.Stats) -> list[int]:
    """What each input has received."""
    return [leg.received for leg in merge_of(stats).legs]


def statuses(stats: mcr.Stats) -> list[str]:
    """The status of each input."""
    return [leg.status for leg in merge_of(stats).legs]
