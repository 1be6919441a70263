"""The supervisor's connections: to its children, and to a supervisor that takes over."""

import json
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcr.daemon.supervisor.child_channel import (
    DRAINED,
    HEARTBEAT,
    KEEP,
    LOAD,
    RESTART,
    ChannelError,
    ChildChannel,
    Message,
    parse,
)
from mcr.daemon.supervisor.handover.form import Form, Kind
from mcr.daemon.supervisor.handover.link import SupervisorLink
from mcr.daemon.supervisor.reactor import Reactor


class TestChildChannel:
    """The fixed set of messages, and sending that never blocks."""

    @given(st.binary(max_size=20), st.integers(0, 2))
    def test_any_bytes(self, content: bytes, passed: int) -> None:
        """Any bytes are a message, or raise a ChannelError."""
        numbers = list(range(100, 100 + passed))
        try:
            message = parse(content, numbers)
        except ChannelError:
            return
        assert content[:1] == message.kind
        assert (message.descriptor is not None) == (passed == 1) == (message.kind in {KEEP, LOAD})

    def test_messages(self) -> None:
        """Numbers are little-endian."""
        assert parse(b"P", []) == Message(HEARTBEAT)
        assert parse(b"R\x01\x02\x05\0\0\0", []) == Message(RESTART, number=0x201, pid=5)
        assert parse(b"Y\x01\x02\x00\x00", []).number == 0x201
        with pytest.raises(ChannelError):
            parse(b"Y", [])
        assert parse(b"K", [9]).descriptor == 9

    def test_too_many_descriptors_are_closed(self) -> None:
        """Those of a hostile child do not stay open."""
        reactor = Reactor()
        heard: list[object] = []
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ChildChannel(near, reactor, heard.append, heard.append)
        before = len(os.listdir("/proc/self/fd"))
        with far:
            socket.send_fds(far, [b"K"], [0, 1, 2])
            reactor.dispatch(reactor.wait(1))
        assert heard == ["sent too many descriptors with a message"]
        assert len(os.listdir("/proc/self/fd")) == before - 2  # both ends are closed
        reactor.close()

    def test_a_child_that_has_not_read_everything_has_the_last_word(self) -> None:
        """The kernel reports its end ahead of its last messages."""
        reactor = Reactor()
        heard: list[object] = []
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = ChildChannel(near, reactor, heard.append, heard.append)
        with far:
            channel.send(b"unread")
            far.send(b"D")
        reactor.dispatch(reactor.wait(1))
        assert heard == [Message(DRAINED), None]
        reactor.close()

    def test_so_has_an_old_supervisor(self) -> None:
        """Its refusal arrives though it has not read what it was told."""
        reactor = Reactor()
        heard: list[object] = []
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link = SupervisorLink(near)
        link.watch(reactor, lambda message: heard.append(message.form.kind), heard.append)
        with far:
            link.say(Kind.STANDBY)
            far.send(Form(Kind.REFUSED).to_bytes())
        reactor.dispatch(reactor.wait(1))
        assert heard == [Kind.REFUSED, None]
        reactor.close()

    def test_sending_never_waits_and_keeps_the_order(self) -> None:
        """Messages are queued, with their descriptors, until there is room."""
        reactor = Reactor()
        ended: list[str | None] = []
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = ChildChannel(near, reactor, lambda message: None, ended.append)
        for number in range(300):
            channel.send_json("worker", os.open(os.devnull, os.O_RDONLY), number=number)
        found: list[tuple[int, int]] = []
        with far:
            far.setblocking(False)
            while len(found) < 300:
                try:
                    content, passed, _, _ = socket.recv_fds(far, 1000, 2)
                except BlockingIOError:
                    reactor.dispatch(reactor.wait(1))
                    continue
                found.append((json.loads(content)["number"], len(passed)))
                os.close(passed[0])
        assert found == [(number, 1) for number in range(300)]
        assert ended == []
        channel.close()
        reactor.close()

    def test_a_child_that_never_reads_is_disconnected(self) -> None:
        """At the limit of the queue; nothing stays open."""
        reactor = Reactor()
        ended: list[str | None] = []
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = ChildChannel(near, reactor, lambda message: None, ended.append)
        before = len(os.listdir("/proc/self/fd"))
        with far:
            for _ in range(5000):
                channel.send_json("hosts", os.open(os.devnull, os.O_RDONLY) if not ended else None)
        assert ended == ["did not read its messages"]
        assert len(os.listdir("/proc/self/fd")) == before - 2
        reactor.close()
