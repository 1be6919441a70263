"""Flows of tens of thousands of datagrams a second, sent and judged by processes of their own.

So neither the test nor its client competes with them for Python's lock. Sent as super-frames: with
GRO they stay so on the wire, else the kernel cuts them and each datagram is a frame.
"""

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .lab import Lab
from .traffic import Receiver, Sender

_PROGRAM = Path(__file__).with_name("bulk_process.py")
_END_S = 20.0
SIZE = 200
BATCH = 20


@dataclass(frozen=True, slots=True)
class Bulk:
    """What became of a flow."""

    sent: int
    rate_pps: float
    received: int
    lost: int
    gaps: list[tuple[int, int]]
    """The first of them: first number, count."""
    late: int
    """Came twice, or behind a later one."""
    own_loss: int
    """What the receiver's own buffer could not take."""
    p50_ms: float
    p99_ms: float
    most_ms: float
    """The longest time from a send call to the receiver's socket."""
    longest_gap_ms: float
    """The longest silence at the receiver."""

    def assert_whole(self) -> None:
        """Nothing is missing, duplicated or reordered."""
        assert (self.lost, self.late, self.own_loss) == (0, 0, 0), self
        assert self.received == self.sent, self


class _Process:
    """One end of a flow, with an open socket of the test."""

    def __init__(self, end: socket.socket, **arguments: object) -> None:
        descriptor = end.fileno()
        given = json.dumps({"descriptor": descriptor, **arguments})
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(_PROGRAM), given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[descriptor],
            text=True,
        )

    def end(self, word: str = "") -> dict[str, Any]:
        """Tell it the word, and that it is over; its report comes back."""
        said, _ = self._process.communicate(word, timeout=_END_S)
        report: dict[str, Any] = json.loads(said)
        return report

    def kill(self) -> None:
        """End the process, whatever the test did."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


class BulkFlow:
    """A running flow: one sender, and one receiver of what the relay sends."""

    def __init__(self, source: _Process, sink: _Process) -> None:
        """Know the two ends."""
        self._source, self._sink = source, sink

    def end(self) -> Bulk:
        """Stop sending, wait until all has arrived or nothing more comes, and judge."""
        sent = self._source.end()
        found = self._sink.end(f"{sent['sent']}\n")
        return Bulk(sent=sent["sent"], rate_pps=sent["sent"] / sent["elapsed_s"], **found)


@contextlib.contextmanager
def bulk_flow(
    lab: Lab, taken: tuple[str, int], made: tuple[str, int], *, rate_pps: int, batch: int = BATCH
) -> Iterator[BulkFlow]:
    """Send to one group and port from s0, and receive another at d0, during the block."""
    with (
        lab.sender(*taken) as sender,
        lab.receive(*made) as receiver,
        flow_between(sender, receiver, rate_pps=rate_pps, batch=batch) as flow,
    ):
        yield flow


@contextlib.contextmanager
def flow_between(
    sender: Sender, receiver: Receiver, *, rate_pps: int, batch: int = BATCH, size: int = SIZE
) -> Iterator[BulkFlow]:
    """Send by one socket and receive by another during the block."""
    with contextlib.ExitStack() as stack:
        sink = _Process(receiver.socket, do="receive", size=size)
        stack.callback(sink.kill)
        source = _Process(sender.socket, do="send", rate_pps=rate_pps, batch=batch, size=size)
        stack.callback(source.kill)
        yield BulkFlow(source, sink)
