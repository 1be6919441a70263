"""Memberships that the kernel drops without the sockets noticing."""

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import settle_sent
from .daemons import serving
from .deaths import kill
from .lab import Lab
from .namespaces import Net
from .relays import Ingress, relaying
from .test_memberships import igmp, joined
from .test_reports import either
from .traffic import payloads

TOO_SMALL_MTU = 1200  # for IPv6 (RFC 8200, 5): the kernel takes it off the interface
GROUP, SOURCE = "ff15::71:1", "fd01::2"
RULES = [
    f"{GROUP}%in0:5001 to 239.2.71.1%out0:6001",
    f"{SOURCE}@{GROUP}%in0:5002 to 239.2.71.2%out0:6001",
    "239.1.71.1%in0:5001 to 239.2.71.3%out0:6001",
]
JOINED = {("in0", GROUP), ("in0", GROUP, SOURCE), ("in0", "239.1.71.1")}


@pytest.fixture
def lab(net: Net) -> Lab:
    """A separate lab: the addresses are lost with the MTU, and not restored."""
    return Lab.build(net)


def set_mtu(lab: Lab, mtu: int) -> None:
    """Set the MTU of the input interface."""
    lab.relay.ip("link", "set", "in0", "mtu", str(mtu))


def relay_all(lab: Lab, rules: mcr.Relay | mcr.Client, sent_before: int) -> None:
    """Each rule relays."""
    sent = payloads(10)
    groups = [(GROUP, 5001), (GROUP, 5002), ("239.1.71.1", 5001)]
    for number, (group, port) in enumerate(groups, 1):
        with (
            lab.receive(f"239.2.71.{number}", 6001) as receiver,
            lab.sender(group, port, source=None if port == 5001 else (SOURCE, 0)) as sender,
        ):
            sender.send(sent)
            receiver.expect(sent)
    settle_sent(rules, *[sent_before + len(sent)] * 3)


@pytest.mark.parametrize("daemon", [False, True], ids=["relay", "daemon"])
def test_groups_are_joined_again_when_ipv6_is_back(
    lab: Lab, ingress: Ingress, *, daemon: bool
) -> None:
    """An MTU below 1280 drops IPv6 memberships; rules name the reason, and resume."""
    with either(lab, ingress, daemon=daemon, rules=RULES) as rules:
        relay_all(lab, rules, 0)
        set_mtu(lab, TOO_SMALL_MTU)
        reason = "waiting: in0 has an MTU of 1200, and IPv6 takes at least 1280"
        wait_until(lambda: [rule.state == reason for rule in rules.stats().rules] == [1, 1, 0])
        assert joined(lab.relay) == {("in0", "239.1.71.1")}
        set_mtu(lab, 1500)
        wait_until(lambda: joined(lab.relay) == JOINED)
        relay_all(lab, rules, 10)
        # So short a time that both changes are heard at once.
        set_mtu(lab, TOO_SMALL_MTU)
        set_mtu(lab, 1500)
        wait_until(lambda: joined(lab.relay) == JOINED)
        relay_all(lab, rules, 20)


def test_a_new_worker_joins_what_its_predecessor_lost(lab: Lab, ingress: Ingress) -> None:
    """A worker that starts meanwhile does not trust the sockets of its predecessor."""
    with serving(lab.relay, "--ingress", ingress) as daemon, daemon.client() as client:
        client.add_rules(RULES)
        relay_all(lab, client, 0)
        set_mtu(lab, TOO_SMALL_MTU)
        kill(*daemon.workers)
        set_mtu(lab, 1500)
        wait_until(lambda: joined(lab.relay) == JOINED)
        relay_all(lab, client, 10)


def test_groups_are_joined_again_when_ipv4_is_back(lab: Lab, ingress: Ingress) -> None:
    """The same below 68 for IPv4, as far as devices permit such an MTU."""
    member = ("lo", "239.1.71.2")
    rule = "239.1.71.2%lo:5001 to 239.2.71.4%out0:6001"
    with relaying(lab.relay, rule, ingress=ingress) as relay:
        assert member in igmp(lab.relay)
        lab.relay.ip("link", "set", "lo", "mtu", "60")
        reason = "waiting: lo has an MTU of 60, and IPv4 takes at least 68"
        wait_until(lambda: relay.stats().rules[0].state == reason)
        lab.relay.ip("link", "set", "lo", "mtu", "65536")
        wait_until(lambda: member in igmp(lab.relay))
