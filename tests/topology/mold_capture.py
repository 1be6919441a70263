"""A capture file of MoldUDP64 as a market sends it: sessions, heartbeats, two feeds with losses."""

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scapy.layers.l2 import Ether
from scapy.utils import RawPcapReader, wrpcap

from .frames import Flow, udp_frame

SESSIONS = ("MARKET0302", "MARKET0303")
PACKETS = 300
"""Packets with messages of each session."""
BEGIN = 8
"""The first ones of a session, which no feed loses."""
PAUSE_PACKETS = 50
"""Packets between heartbeats."""
END_OF_SESSION = 0xFFFF
BEGIN_S = 1_772_000_000
"""The time of the first frame, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class MoldPacket:
    """A packet of a session: the number of its first message, and its messages."""

    session: str
    first: int
    messages: tuple[bytes, ...] = ()
    is_end: bool = False

    @property
    def count(self) -> int:
        """What stands in its header as the number of messages."""
        return END_OF_SESSION if self.is_end else len(self.messages)

    @property
    def payload(self) -> bytes:
        """Its bytes."""
        head = self.session.encode() + struct.pack(">QH", self.first, self.count)
        return head + b"".join(struct.pack(">H", len(each)) + each for each in self.messages)


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet on one feed."""

    leg: int
    packet: MoldPacket


def market(seed: int) -> Iterator[MoldPacket]:
    """All packets of all sessions; each has one to six messages of random sizes."""
    chance = random.Random(seed)
    for session in SESSIONS:
        first = 1
        for number in range(PACKETS):
            sizes = [chance.randint(1, 60) for _ in range(chance.randint(1, 6))]
            messages = [chance.randbytes(size) for size in sizes]
            yield MoldPacket(session, first, tuple(messages))
            first += len(messages)
            if number % PAUSE_PACKETS == PAUSE_PACKETS - 1:
                yield MoldPacket(session, first)
        yield MoldPacket(session, first, is_end=True)


def feeds(seed: int, loss: float) -> list[Sent]:
    """Both feeds, each with losses of its own; the second one is three packets behind."""
    chance, packets = random.Random(seed), [*market(seed)]
    begins = [at for at, packet in enumerate(packets) if packet.first == 1]
    kept = {at + each for at in begins for each in range(BEGIN)}
    sent = []
    for at in range(len(packets) + 3):
        for leg, place in ((0, at), (1, at - 3)):
            if 0 <= place < len(packets) and (place in kept or chance.random() >= loss):
                sent.append(Sent(leg, packets[place]))
    return sent


def write_capture(path: Path, sent: Sequence[Sent], flows: Sequence[Flow]) -> None:
    """Write the packets as frames, a tenth of a millisecond apart."""
    frames = [Ether(udp_frame(flows[each.leg], each.packet.payload)) for each in sent]
    for number, frame in enumerate(frames):
        frame.time = BEGIN_S + number / 10_000
    wrpcap(str(path), frames)


def read_capture(path: Path) -> Iterator[bytes]:
    """Yield the frames of a capture."""
    with RawPcapReader(str(path)) as reader:
        yield from (frame for frame, _ in reader)
