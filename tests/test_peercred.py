"""The credentials of the peer of a Unix socket."""

import os
import socket
import struct
from pathlib import Path

import pytest

from mcr.client import connect
from mcr.daemon.control.api.access import peer_of
from mcr.protocol.peercred import PeerCredentials, peer_credentials

HIGH_ID = (1 << 31) + 7  # negative if it were read as a signed number
PATH = Path("/tmp/mcr-of-a-high-user/mcr.sock")


def test_the_peer_of_a_socket_pair_is_this_process() -> None:
    """As the kernel reports it."""
    one, other = socket.socketpair()
    with one, other:
        assert peer_credentials(one) == PeerCredentials(os.getpid(), os.geteuid(), os.getegid())


def test_ids_above_two_to_the_31_are_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are unsigned, up to 2^32 - 2; user namespaces and directories assign large ones."""
    ucred = struct.pack("=iII", 4711, HIGH_ID, HIGH_ID + 1)
    monkeypatch.setattr(socket.socket, "getsockopt", lambda *_: ucred)
    one, other = socket.socketpair()
    with one, other:
        assert peer_credentials(one) == PeerCredentials(4711, HIGH_ID, HIGH_ID + 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: needs root")
def test_users_above_two_to_the_31_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the daemon as clients, and by clients as the user of a daemon."""
    os.seteuid(HIGH_ID)
    try:
        one, other = socket.socketpair()
    finally:
        os.seteuid(0)
    with one, other:
        assert peer_of(one).uid == HIGH_ID
        monkeypatch.setattr(os, "geteuid", lambda: HIGH_ID)
        monkeypatch.setattr(connect, "default_socket", lambda: PATH)
        connect._check_peer(one, PATH)
