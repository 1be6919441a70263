"""Source lists longer than the kernel lets one socket have."""

import pytest

import mcr

from .checks import dropped, settle_sent
from .frames import Flow, Injector, udp_frame
from .lab import Lab
from .relays import relaying
from .test_memberships import source_joins

CASES = pytest.mark.parametrize(
    ("group", "network", "count", "limit"),
    [
        ("239.1.36.1", "10.1.0.", 25, "net.ipv4.igmp_max_msf"),
        ("ff15::36:1", "fd01::", 70, "net.ipv6.mld_max_msf"),
    ],
    ids=["v4", "v6"],
)


def rule(group: str, network: str, count: int) -> str:
    """A rule that lists this many sources."""
    sources = "+".join(f"{network}{number}" for number in range(100, 100 + count))
    return f"{sources}@{group}%in0:5001 to 239.2.36.1%out0:6001"


@CASES
def test_a_long_list_is_joined_whole(
    lab: Lab, group: str, network: str, count: int, limit: str
) -> None:
    """Each sender of the list is joined and relayed, and the one beside it is not."""
    numbers = range(100, 100 + count)
    sent = [f"from {number}".encode() for number in numbers]
    frames = [
        udp_frame(Flow(f"{network}{number}", group, 5001), payload)
        for number, payload in zip(numbers, sent, strict=True)
    ]
    stranger = udp_frame(Flow(f"{network}99", group, 5001), b"stranger")
    with (
        lab.receive("239.2.36.1", 6001) as receiver,
        relaying(lab.relay, rule(group, network, count), ingress="packet") as relay,
        Injector(lab.source, "s0") as wire,
    ):
        wire.send(stranger, *frames)
        receiver.expect(sent)
        stats = settle_sent(relay, count)
        assert dropped(stats, "in0", "source") == 1
        joined = {source for device, at, source in source_joins(lab.relay) if at == group}
        assert joined == {f"{network}{number}" for number in numbers}


@CASES
def test_one_socket_refuses_a_long_list(
    lab: Lab, group: str, network: str, count: int, limit: str
) -> None:
    """The udp ingress has one socket for a group: the sysctl to raise is named."""
    text = rule(group, network, count)
    with lab.relay, pytest.raises(mcr.InterfaceError, match=limit), mcr.Relay(text, ingress="udp"):
        pass
    assert source_joins(lab.relay) == set()


def test_a_raised_limit_lets_one_socket_have_more(lab: Lab) -> None:
    """What the refusal says helps (the sysctl for IPv6 belongs to the whole host)."""
    lab.relay.sysctl("net.ipv4.igmp_max_msf", 25)
    try:
        with relaying(lab.relay, rule("239.1.36.1", "10.1.0.", 25), ingress="udp"):
            assert len(source_joins(lab.relay)) == 25
    finally:
        lab.relay.sysctl("net.ipv4.igmp_max_msf", 10)
