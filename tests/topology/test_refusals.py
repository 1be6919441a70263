"""What the kernel refuses: a copy is counted by the errno's name, a change leaves no trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import mcr

from .checks import settle, settle_sent
from .lab import Lab
from .relays import Ingress, relaying
from .test_memberships import joins, packet_sockets, udp_sockets
from .traffic import PacedFlow, payloads

JOINS_IN_A_SOCKET = 20
HOST = "10.3.0.2"


@contextmanager
def unreachable(lab: Lab, host: str) -> Iterator[None]:
    """Refuse a host by a route of the relay's namespace."""
    lab.relay.ip("route", "add", "unreachable", f"{host}/32")
    try:
        yield
    finally:
        lab.relay.ip("route", "del", "unreachable", f"{host}/32")


def test_send_errors_are_counted_by_name(lab: Lab, ingress: Ingress, gro: bool) -> None:
    """A host without a way costs its own copies only, each under its errno, until there is one."""
    parts = [payloads(60, seed=seed) for seed in range(3)]
    with (
        lab.receive("239.2.95.1", 6001) as group,
        lab.receive(HOST, 7000, "d1") as host,
        relaying(
            lab.relay,
            f"239.1.95.1%in0:5001 to {HOST}:7000 239.2.95.1%out0:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.95.1", 5001) as sender,
    ):
        sender.send(parts[0])
        host.expect(parts[0])
        with unreachable(lab, HOST):
            sender.send(parts[1])
            group.expect(parts[0] + parts[1])
            stats = settle(relay, lambda stats: stats.rules[0].outputs[0].lost >= len(parts[1]))
        (lost, well) = stats.rules[0].outputs
        assert lost.errors == {"EHOSTUNREACH": len(parts[1])}
        assert lost.dropped["send_error"] == lost.lost == len(parts[1])
        assert well.lost == 0
        sender.send(parts[2])
        host.expect(parts[0] + parts[2])
        group.expect([datagram for part in parts for datagram in part])
        settle_sent(relay, len(parts[0] + parts[2]), sum(map(len, parts)))


@contextmanager
def no_more_joins(lab: Lab) -> Iterator[None]:
    """Let the kernel refuse every further IPv4 membership in the relay's namespace."""
    lab.relay.sysctl("net.ipv4.igmp_max_memberships", 0)
    try:
        yield
    finally:
        lab.relay.sysctl("net.ipv4.igmp_max_memberships", JOINS_IN_A_SOCKET)


def test_a_refused_change_leaves_what_runs(lab: Lab, ingress: Ingress) -> None:
    """Of a change whose last rule the kernel refuses nothing stays, and the flow loses nothing."""
    rule = "239.1.96.1%in0:5001 to 239.2.96.1%out0:6001"
    change = [
        "ff15::96:1%big:5001 to 239.2.96.2%out0:6001",
        "239.1.96.2%bare:5001 to 239.2.96.3%out0:6001",
    ]

    def kept() -> tuple[object, ...]:
        space = lab.relay
        return joins(space), packet_sockets(space), udp_sockets(space), relay.rules

    with (
        lab.receive("239.2.96.1", 6001) as receiver,
        relaying(lab.relay, rule, ingress=ingress) as relay,
        lab.sender("239.1.96.1", 5001) as sender,
    ):
        before = kept()
        with PacedFlow(sender, 2000) as flow:
            flow.advance(50)
            with no_more_joins(lab), lab.relay:
                for call in (
                    lambda: relay.replace_rules(change),
                    lambda: relay.replace_rules([rule, *change]),
                    lambda: relay.add_rule(change[1]),
                ):
                    with pytest.raises(mcr.McrError, match="igmp_max_memberships"):
                        call()
                    assert kept() == before
            flow.advance(50)
        receiver.expect(flow.sent)
        settle_sent(relay, len(flow.sent))
        with lab.relay:
            relay.replace_rules([rule, *change])
        assert len(relay.rules) == 1 + len(change)
