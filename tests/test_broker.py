"""The supervisor's broker in Python; its work for workers is tested in the crate."""

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.support.broker_messages import HELLO

import mcr
from mcr._native import Broker

DONE = bytes([1])


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The worker's and the supervisor's end of a socket pair."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    far.setblocking(False)
    with closing(near), closing(far):
        yield near, far


def test_a_worker_is_answered_until_it_ends(line: tuple[socket.socket, socket.socket]) -> None:
    """Pending requests are answered; without any the call returns at once."""
    near, far = line
    broker = Broker(1, "udp")
    assert broker.serve(0, far.fileno())
    near.send(HELLO)
    assert broker.serve(0, far.fileno())
    assert near.recv(100) == DONE
    assert broker.open_sockets == 0
    near.close()
    assert not broker.serve(0, far.fileno())
    broker.forget()


@pytest.mark.parametrize("message", [b"garbage", HELLO[:2], HELLO + b"\0", bytes([16])])
def test_a_protocol_violation_is_an_error(
    line: tuple[socket.socket, socket.socket], message: bytes
) -> None:
    """The supervisor kills such a worker; the broker continues."""
    near, far = line
    broker = Broker(2, "udp")
    near.send(message)
    with pytest.raises(mcr.McrError, match="worker 1 violated the broker protocol"):
        broker.serve(1, far.fileno())
    near.send(HELLO)
    assert broker.serve(1, far.fileno())
    assert near.recv(100) == DONE


def test_descriptors_from_a_worker_are_closed(line: tuple[socket.socket, socket.socket]) -> None:
    """None of them stays open in the supervisor."""
    near, far = line
    broker = Broker(1, "udp")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        socket.send_fds(near, [HELLO], [0, 0, 0])
        with pytest.raises(mcr.McrError):
            broker.serve(0, far.fileno())
    assert len(os.listdir("/proc/self/fd")) == before


def merger(port: int) -> bytes:
    """Request a helper socket for any address, without an input."""
    return bytes([8, 1]) + port.to_bytes(2, "little") + b"\0"


def test_no_worker_uses_up_the_descriptors(line: tuple[socket.socket, socket.socket]) -> None:
    """Each has its share, and the supervisor its own."""
    near, far = line
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 400, limits[1]))
    try:
        broker = Broker(2, "packet")
        near.send(HELLO)
        broker.serve(0, far.fileno())
        assert near.recv(100) == DONE
        answers = []
        for port in range(20_000, 22_000):
            near.send(merger(port))
            assert broker.serve(0, far.fileno())
            answers.append(near.recv(2000))
        assert b"too many rules: the supervisor's descriptors" in answers[-1]
        assert 100 < broker.open_sockets <= (used + 400) // 2
        others = [socket.socketpair() for _ in range(50)]
        for pair in others:
            for end in pair:
                end.close()
        broker.forget()
        assert broker.open_sockets == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_many_requests_are_served_in_turns() -> None:
    """A long series is interrupted, and continues with the next call."""
    # The namespace is the test's own: sockets of packets are opened on its loopback.
    script = """
import os, socket, sys, time
from mcr._native import Broker
near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
far.setblocking(False)
near.setblocking(False)
broker = Broker(1, "packet", 33554432)
near.send(bytes.fromhex(sys.argv[1]))
broker.serve(0, far.fileno())
near.recv(100)
frames = bytes([2]) + (1).to_bytes(4, "little") + b"\\x02\\0lo" + bytes([0, 0, 0])
release = bytes([15]) + (1).to_bytes(2, "little")
asked, lease, turns, longest = 0, 0, 0, 0.0
for round in range(60):
    near.send(frames)
    lease += 1
    near.send(release + lease.to_bytes(8, "little"))
    asked += 2
answered = 0
while answered < asked // 2:
    began = time.perf_counter()
    assert broker.serve(0, far.fileno())
    longest = max(longest, time.perf_counter() - began)
    turns += 1
    try:
        while near.recv(2000)[0] == 5:
            answered += 1
    except BlockingIOError:
        pass
print(turns, longest)
"""
    command = ["unshare", "-n", sys.executable, "-I", "-c", script, HELLO.hex()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if run.returncode != 0 and os.geteuid() != 0:
        pytest.skip("packet sockets and namespaces need root")
    assert run.returncode == 0, run.stderr
    turns, longest_s = run.stdout.split()
    assert int(turns) > 1, run.stdout
    assert float(longest_s) < 1


def test_mistakes_are_named(line: tuple[socket.socket, socket.socket]) -> None:
    """In the arguments of the broker and of its calls."""
    near, far = line
    with pytest.raises(mcr.McrError, match='ingress: must be packet or udp, not "auto"'):
        Broker(1, "auto")  # type: ignore[arg-type]
    with pytest.raises(OSError, match="Bad file number"):
        Broker(1, "udp").serve(0, 99_999)
    near.send(HELLO)
    with pytest.raises(mcr.McrError, match="unknown worker number"):
        Broker(1, "udp").serve(1, far.fileno())
