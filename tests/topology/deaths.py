"""Tools for tests of dying processes: stop one, watch the network, evaluate a flow."""

import contextlib
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

from tests.support.deadline import wait_until
from tests.support.processes import waited_s

from .daemons import Daemon
from .namespaces import Namespace
from .traffic import Receiver

OUTAGE_MS = 500.0
_ETH_P_IP = 0x0800
_IGMP = 2
_V2_LEAVE = 0x17
_V3_REPORT = 0x22
_TO_INCLUDE = 3  # RFC 3376, 4.2.12: with no sources, this is how a group is left


def kill(*pids: int) -> None:
    """End processes with SIGKILL, and wait until their parent knows."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    # All threads are over only then: one may relay for a moment yet.
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


@contextlib.contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Keep processes stopped during the block, as long as they exist."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    # A thread that has not heard of it yet may take datagrams, which die with it.
    wait_until(lambda: all(_states(pid) <= {"T"} for pid in pids))
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def slowed(pid: int, *, stopped_s: float, running_s: float) -> Iterator[None]:
    """Let a process run only for moments during the block."""
    over = threading.Event()

    def stop_again_and_again() -> None:
        while not over.wait(running_s):
            os.kill(pid, signal.SIGSTOP)
            over.wait(stopped_s)
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=stop_again_and_again)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _states(pid: int) -> set[str]:
    """The states of the threads of a process, see proc_pid_stat(5)."""
    stats = [task.joinpath("stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return {stat.rpartition(") ")[2][0] for stat in stats}


def descriptors(pid: int) -> dict[int, str]:
    """The target of each open descriptor of a process, see proc_pid_fd(5)."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found[int(entry.name)] = os.readlink(entry)
    return found


def lost(sent: Sequence[bytes], receiver: Receiver) -> int:
    """The number of datagrams that did not arrive; all others arrived once and in order."""
    wanted = iter(sent)
    assert all(datagram in wanted for datagram in receiver.collected), "reordered or twice"
    assert receiver.lost() == 0, "the test's own receiver lost datagrams"
    return len(sent) - len(receiver.collected)


class OutageLimit:
    """How long worker 0 may be away from now on: half a second, beside what this machine adds.

    That is the time for which the processes of the daemon wait for a processor. A value in
    milliseconds is fixed by `end`.
    """

    def __init__(self, daemon: Daemon) -> None:
        """Begin, before the worker dies."""
        self._daemon = daemon
        self._others = (daemon.supervisor, daemon.control)
        self._before_s = waited_s(*self._others)
        self.ms = OUTAGE_MS

    def end(self) -> float:
        """The worker is back: return the limit in milliseconds."""
        waited = waited_s(*self._others, self._daemon.workers[0]) - self._before_s
        self.ms = OUTAGE_MS + 1000 * waited
        return self.ms


class Leaves:
    """Receives the IGMP leaves on a link, at its other end."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        """Listen from now on."""
        with namespace:
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP)
            )
            self._socket.bind((interface, _ETH_P_IP))
        self._socket.setblocking(False)
        self._left: set[str] = set()

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self._socket.close()

    def heard(self, wait_s: float = 0.0) -> set[str]:
        """The groups that were left so far."""
        while select.select([self._socket], [], [], wait_s)[0]:
            packet = self._socket.recv(65535)
            header = (packet[0] & 15) * 4
            if packet[9] == _IGMP:
                self._left |= set(_groups_left(packet[header:]))
            wait_s = 0.0
        return self._left


def _groups_left(message: bytes) -> Iterator[str]:
    if message[0] == _V2_LEAVE:
        yield str(IPv4Address(message[4:8]))
    if message[0] != _V3_REPORT:
        return
    at = 8
    for _ in range(struct.unpack_from("!H", message, 6)[0]):
        kind, auxiliary, sources = struct.unpack_from("!BBH", message, at)
        if kind == _TO_INCLUDE and sources == 0:
            yield str(IPv4Address(message[at + 4 : at + 8]))
        at += 8 + 4 * (sources + auxiliary)
