"""One end of a fast flow, as a process of its own: sends, or receives and judges.

Run by `bulk` with an open socket; knows neither namespaces nor mcr, imports nothing but the
standard library. A datagram is its number and the time of its send call.
"""

import array
import contextlib
import json
import os
import select
import socket
import struct
import sys
import time
from typing import Any

HEADER = struct.Struct("=QQ")  # number, CLOCK_REALTIME in ns
UDP_SEGMENT = 103
UDP_GRO = 104
SO_TIMESTAMPNS = 35
SO_MEMINFO = 55
MEMINFO_DROPS = 8
QUIET_S = 3.0
"""After so long without a datagram a receiver that knows how many there are gives up."""
MOST_BYTES = 65535
CONTROL_BYTES = 256
_TICK_S = 0.001
_BEHIND = 10  # batches: what was missed beyond is left out, not sent in a burst


def send(descriptor: int, rate_pps: int, batch: int, size: int) -> dict[str, Any]:
    """Send super-frames at a steady rate until standard input ends; say what was sent."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # see `traffic.on_one_processor`
    filler = bytes(size - HEADER.size)
    control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))]
    sent, left_out = 0, 0
    with socket.socket(fileno=descriptor) as sender:
        began = time.monotonic()
        while not select.select([0], [], [], _TICK_S)[0]:
            due = int((time.monotonic() - began) * rate_pps) // batch - left_out - sent // batch
            left_out += max(0, due - _BEHIND)
            for _ in range(min(due, _BEHIND)):
                now = time.time_ns()
                numbers = range(sent, sent + batch)
                sender.sendmsg([HEADER.pack(each, now) + filler for each in numbers], control)
                sent += batch
        elapsed_s = time.monotonic() - began
    return {"sent": sent, "elapsed_s": elapsed_s}


def receive(descriptor: int, size: int) -> dict[str, Any]:
    """Receive until standard input has said how many there are and all have come."""
    judge = Judge(size)
    with socket.socket(fileno=descriptor) as receiver:
        receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        receiver.setblocking(False)
        expected: int | None = None
        quiet_since = time.monotonic()
        while expected is None or judge.received < expected:
            watched: list[socket.socket | int] = [receiver]
            watched += [] if expected is not None else [0]
            ready = select.select(watched, [], [], QUIET_S)[0]
            if 0 in ready:
                expected = int(sys.stdin.readline())
                quiet_since = time.monotonic()
            if receiver in ready:
                judge.drain(receiver)
                quiet_since = time.monotonic()
            elif expected is not None and time.monotonic() - quiet_since >= QUIET_S:
                break
        judge.drain(receiver)
        words = receiver.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 64)
        judge.own_loss = struct.unpack_from("=I", words, 4 * MEMINFO_DROPS)[0]
    return judge.report()


class Judge:
    """What a receiver makes of the numbers and times in datagrams."""

    def __init__(self, size: int) -> None:
        """Expect datagrams of this size."""
        self.received = 0
        self.own_loss = 0
        self._datagram = struct.Struct(f"{HEADER.format}{size - HEADER.size}x")
        self._next = 0
        self._lost: list[tuple[int, int]] = []
        self._late = 0
        self._delays_us = array.array("q")
        self._longest_gap_ns = 0
        self._before_ns = 0

    def drain(self, receiver: socket.socket) -> None:
        """Take all that is there."""
        while True:
            try:
                data, control, _, _ = receiver.recvmsg(MOST_BYTES, CONTROL_BYTES)
            except BlockingIOError:
                return
            stamps = [
                value
                for level, kind, value in control
                if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS)
            ]
            seconds, nanoseconds = struct.unpack("=qq", stamps[0])
            self._take(data, seconds * 10**9 + nanoseconds)

    def _take(self, data: bytes, at_ns: int) -> None:
        for number, _ in self._datagram.iter_unpack(data):
            if number < self._next:
                self._late += 1
            else:
                if number > self._next:
                    self._lost.append((self._next, number - self._next))
                self._next = number + 1
            self.received += 1
        _, sent_ns = HEADER.unpack_from(data)
        self._delays_us.append((at_ns - sent_ns) // 1000)
        if self._before_ns:
            self._longest_gap_ns = max(self._longest_gap_ns, at_ns - self._before_ns)
        self._before_ns = at_ns

    def report(self) -> dict[str, Any]:
        """Everything, for the test."""
        delays = sorted(self._delays_us) or [0]
        return {
            "received": self.received,
            "lost": sum(count for _, count in self._lost),
            "gaps": self._lost[:10],
            "late": self._late,
            "own_loss": self.own_loss,
            "p50_ms": delays[len(delays) // 2] / 1000,
            "p99_ms": delays[len(delays) * 99 // 100] / 1000,
            "most_ms": delays[-1] / 1000,
            "longest_gap_ms": self._longest_gap_ns / 10**6,
        }


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    with contextlib.suppress(PermissionError):  # before what else goes on on this machine
        os.nice(-10)
    is_sender = arguments.pop("do") == "send"
    print(json.dumps(send(**arguments) if is_sender else receive(**arguments)), flush=True)
