"""The supervisor's broker as Python has it; what it does for workers is tested in the crate."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

import mcr
from mcr._native import Broker

HELLO = bytes([1, 1, 0])
DONE = bytes([1])


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The worker's end and the supervisor's."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    far.setblocking(False)
    with closing(near), closing(far):
        yield near, far


def test_a_worker_is_answered_until_it_ends(line: tuple[socket.socket, socket.socket]) -> None:
    """What waits is answered; without anything it returns at once."""
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
def test_a_worker_that_sends_something_else_is_told_of(
    line: tuple[socket.socket, socket.socket], message: bytes
) -> None:
    """The supervisor ends such a worker; the broker goes on."""
    near, far = line
    broker = Broker(2, "udp")
    near.send(message)
    with pytest.raises(mcr.McrError, match="worker 1 sent its supervisor"):
        broker.serve(1, far.fileno())
    near.send(HELLO)
    assert broker.serve(1, far.fileno())
    assert near.recv(100) == DONE


def test_descriptors_of_a_worker_are_not_taken(line: tuple[socket.socket, socket.socket]) -> None:
    """None of them stays open in the supervisor."""
    near, far = line
    broker = Broker(1, "udp")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        socket.send_fds(near, [HELLO], [0, 0, 0])
        with pytest.raises(mcr.McrError):
            broker.serve(0, far.fileno())
    assert len(os.listdir("/proc/self/fd")) == before


def test_mistakes_are_named(line: tuple[socket.socket, socket.socket]) -> None:
    """Of who makes and serves it."""
    near, far = line
    with pytest.raises(mcr.McrError, match='ingress: "auto" is none of packet, udp'):
        Broker(1, "auto")  # type: ignore[arg-type]
    with pytest.raises(OSError, match="Bad file number"):
        Broker(1, "udp").serve(0, 99_999)
    near.send(HELLO)
    with pytest.raises(mcr.McrError, match="none of a worker"):
        Broker(1, "udp").serve(1, far.fileno())
