"""When datagrams arrive, by the kernel's time stamps."""

import socket
import struct
from collections.abc import Sequence

from .lab import Lab
from .traffic import MAX_DATAGRAM, Receiver

SO_TIMESTAMPNS = 35


class TimedReceiver(Receiver):
    """A receiver that also reads when the kernel got each datagram."""

    def __init__(self, lab: Lab, group: str, port: int) -> None:
        """Have the kernel tell the time with each datagram."""
        super().__init__(lab.receiver, "d0", group, port)
        self.times_s: list[float] = []
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def drain(self) -> list[bytes]:
        """Take what has arrived, without waiting; return everything collected so far."""
        while True:
            try:
                datagram, control, _, source = self.socket.recvmsg(MAX_DATAGRAM, 64)
            except BlockingIOError:
                return self.collected
            whole_s, part_ns = struct.unpack("=qq", control[0][2])
            self.collected.append(datagram)
            self.sources.append(source[:2])
            self.times_s.append(whole_s + part_ns / 1e9)


def most_within(times_s: Sequence[float], window_s: float) -> int:
    """The most datagrams in any window of this length."""
    most = start = 0
    for number, now_s in enumerate(times_s, 1):
        while times_s[start] <= now_s - window_s:
            start += 1
        most = max(most, number - start)
    return most
