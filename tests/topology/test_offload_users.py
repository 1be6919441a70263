"""Others on the relay's host that use the frames of an input: they get them, as without offload."""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest
from tests.support.deadline import wait_until

from .bursts import LinkReceiver
from .egress import OUT_PORT, PORT, copy_group, flow, output, rule
from .lab import Lab
from .offload import native, offloading, relayers, wait_for_relayers
from .relays import Ingress
from .test_offload_moves import expect_all, flowing
from .traffic import Receiver

Count = Callable[[], int]
"""How many datagrams of the input another user has received."""
GROUP = flow(1).group
TTL = 8
"""Of the datagrams of `flow`."""
_MRT_INIT, _MRT_ADD_VIF, _MRT_ADD_MFC = 200, 202, 204
_VIFF_USE_IFINDEX = 8


@pytest.fixture(autouse=True)
def _native(lab: Lab) -> None:
    native(lab)


@contextlib.contextmanager
def listener(lab: Lab) -> Iterator[Count]:
    """A program that is a member of the group."""
    with Receiver(lab.relay, "in0", GROUP, PORT) as program:
        yield lambda: len(program.drain())


@contextlib.contextmanager
def capture(lab: Lab) -> Iterator[Count]:
    """A program that looks at all frames, such as tcpdump."""
    with LinkReceiver(lab.relay, "in0", [PORT]) as link, lab.relay.promiscuous("in0"):
        yield lambda: len(link.drain())


@contextlib.contextmanager
def upper(lab: Lab) -> Iterator[Count]:
    """A program on a macvlan above the interface, as in a container."""
    lab.relay.ip("link", "add", "mv7", "link", "in0", "type", "macvlan", "mode", "bridge")
    try:
        lab.relay.set_up("mv7", up=True)
        with Receiver(lab.relay, "mv7", GROUP, PORT) as program:
            yield lambda: len(program.drain())
    finally:
        lab.relay.ip("link", "del", "mv7")


@contextlib.contextmanager
def bridge(lab: Lab) -> Iterator[Count]:
    """A bridge that forwards what arrives at the interface."""
    lab.relay.ip("link", "add", "br7", "type", "bridge", "mcast_snooping", "0")
    try:
        lab.relay.set_up("br7", up=True)
        for port in ("out1", "in0"):
            lab.relay.ip("link", "set", port, "master", "br7")
        with LinkReceiver(lab.receiver, "d1", [PORT]) as link:
            yield lambda: len(link.drain())
    finally:
        lab.relay.ip("link", "del", "br7")


@contextlib.contextmanager
def traffic_filter(lab: Lab) -> Iterator[None]:
    """A filter of tc, which has no count to show on every kernel."""
    tc = ("tc", "filter", "add", "dev", "in0", "ingress", "protocol", "ip", "prio", "1", "u32")
    lab.relay.run("tc", "qdisc", "add", "dev", "in0", "clsact")
    try:
        lab.relay.run(*tc, "match", "ip", "dst", GROUP, "classid", "1:1")
        yield None
    finally:
        lab.relay.run("tc", "qdisc", "del", "dev", "in0", "clsact")


@contextlib.contextmanager
def device_chain(lab: Lab) -> Iterator[Count]:
    """A chain of nftables on the interface that counts."""
    with _table(lab, "netdev", "ingress device in0") as count:
        yield count


@contextlib.contextmanager
def input_chain(lab: Lab) -> Iterator[Count]:
    """A chain of nftables before the sockets of this host, which it lets through."""
    with _table(lab, "inet", "prerouting") as count:
        yield count


@contextlib.contextmanager
def _table(lab: Lab, family: str, hook: str) -> Iterator[Count]:
    lab.relay.run("nft", f"add table {family} looks")
    try:
        chain = f"{{ type filter hook {hook} priority 0; }}"
        lab.relay.run("nft", f"add chain {family} looks in {chain}")
        lab.relay.run("nft", f"add rule {family} looks in ip daddr {GROUP} counter accept")
        yield lambda: _number_behind(
            lab.relay.run("nft", f"list chain {family} looks in"), "packets "
        )
    finally:
        lab.relay.run("nft", f"delete table {family} looks")


@contextlib.contextmanager
def routing_daemon(lab: Lab) -> Iterator[Count]:
    """A daemon that has the kernel route the group to another interface."""
    with lab.relay, socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP) as daemon:
        daemon.setsockopt(socket.IPPROTO_IP, _MRT_INIT, 1)
        for number, name in enumerate(("in0", "out1")):
            index = socket.if_nametoindex(name)
            vif = struct.pack("=HBBIIi", number, _VIFF_USE_IFINDEX, 1, 0, index, 0)
            daemon.setsockopt(socket.IPPROTO_IP, _MRT_ADD_VIF, vif)
        route = ip_address(flow(1).source).packed + ip_address(GROUP).packed
        route += struct.pack("=H32s2xIIIi", 0, bytes([0, 1]), 0, 0, 0, 0)
        daemon.setsockopt(socket.IPPROTO_IP, _MRT_ADD_MFC, route)
        with LinkReceiver(lab.receiver, "d1", [PORT]) as link:
            yield lambda: len(link.drain())


def _number_behind(text: str, word: str) -> int:
    _, found, rest = text.partition(word)
    return int(rest.split()[0]) if found else 0


User = Callable[[Lab], contextlib.AbstractContextManager[Count | None]]
USERS: list[tuple[str, User, Ingress]] = [
    ("listener", listener, "packet"),
    ("listener", listener, "udp"),
    ("capture", capture, "packet"),
    ("upper", upper, "udp"),
    ("upper", bridge, "packet"),
    ("filter", traffic_filter, "packet"),
    ("firewall", device_chain, "packet"),
    ("firewall", input_chain, "udp"),
    ("multicast_routing", routing_daemon, "packet"),
]


@pytest.mark.parametrize(
    ("reason", "user", "ingress"), USERS, ids=[f"{user.__name__}-{of}" for _, user, of in USERS]
)
def test_others_get_their_frames(lab: Lab, reason: str, user: User, ingress: Ingress) -> None:
    """The engine relays while they are there, and the kernel again afterwards; nothing is lost."""
    with (
        flowing(lab, rule(1, output(1)), ingress=ingress) as (sending, link, relay),
        contextlib.ExitStack() as stack,
    ):
        with sending.paused():
            count = stack.enter_context(user(lab))
            wait_for_relayers(relay, reason)
            sent, before = len(sending.sent), count() if count else 0
        sending.advance()
        with sending.paused():
            wanted = len(sending.sent) - sent + before
            wait_until(lambda: count is None or count() >= wanted)
            stack.close()
        wait_for_relayers(relay, "kernel")
        sending.advance()
        expect_all(link, sending, relay)


def test_an_input_without_native_mode(lab: Lab) -> None:
    """The program would run in the stack, where nothing is gained: the engine relays."""
    lab.relay.ip("link", "add", "mv7", "link", "in0", "type", "macvlan", "mode", "bridge")
    try:
        lab.relay.set_up("mv7", up=True)
        text = rule(1, output(1)).replace("%in0", "%mv7")
        with (
            lab.receive(copy_group(1), OUT_PORT) as receiver,
            lab.sender(GROUP, PORT) as sender,
            offloading(lab, text, offload="auto", ingress="udp") as relay,
        ):
            assert relayers(relay.stats()) == ["hook"]
            sender.send([b"one", b"two"])
            receiver.expect([b"one", b"two"])
    finally:
        lab.relay.ip("link", "del", "mv7")
