"""Broadcast addresses in rules: their interface, and their loops."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from tests.support.fake_host import ETH0, ETH1, LO

import mcr
from mcr.errors import RuleError
from mcr.rules.local_host import Interface
from mcr.rules.ruleset import resolve

NETS = (
    LO,
    replace(ETH0, broadcasts=(IPv4Address("10.0.0.255"),)),
    replace(ETH1, broadcasts=(IPv4Address("10.0.1.255"),)),
)
TWINS = (*NETS, replace(ETH1, name="eth2", index=9, broadcasts=(IPv4Address("10.0.0.255"),)))


def problem(rules: Iterable[str], interfaces: Iterable[Interface] = NETS) -> str:
    """The only problem."""
    with pytest.raises(RuleError) as caught:
        resolve(rules, interfaces, ingress="udp")
    (found,) = caught.value.problems
    return str(found)


def test_a_broadcast_address_determines_its_interface() -> None:
    """As an input and as an output; 255.255.255.255 needs an interface."""
    (rule,) = resolve(
        ["10.0.0.255:5001 to 10.0.1.255:6001 255.255.255.255%eth1:6001"], NETS, ingress="udp"
    ).rules
    assert (rule.input.interface, rule.input.broadcast) == ("eth0", True)
    network, link = rule.outputs
    assert (network.interface, network.broadcast, network.ttl) == ("eth1", True, 64)
    assert (link.interface, link.broadcast, link.ttl) == ("eth1", True, 1)


def test_hosts_and_groups_are_no_broadcast() -> None:
    """A broadcast address of another network is routed like a host."""
    (rule,) = resolve(
        ["239.1.1.1%eth0:1 to 10.0.1.254:1 239.2.0.1%eth1:1 192.0.2.255:1"], NETS, ingress="udp"
    ).rules
    assert not rule.input.broadcast
    assert [output.broadcast for output in rule.outputs] == [False] * 3
    assert [output.interface for output in rule.outputs] == ["", "eth1", ""]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            "255.255.255.255:1 to 192.0.2.7:1",
            "input, interface: a broadcast address needs one; write 255.255.255.255%INTERFACE with",
        ),
        (
            "239.1.1.1%eth0:1 to 255.255.255.255:1",
            "output 1, interface: a broadcast address needs one; write 255.255.255.255%INTERFACE",
        ),
        (
            "10.0.0.255:1 to 192.0.2.7:1",
            "several interfaces have 10.0.0.255; name one of eth0, eth2",
        ),
        (
            "239.1.1.1%eth0:1 to 10.0.0.255:1",
            "output 1, interface: a broadcast address needs one; write 10.0.0.255%INTERFACE with",
        ),
        ("255.255.255.255%eth0:1 to 255.255.255.255%eth0:1", "is the rule's own input"),
        ("10.0.1.255:1 to 10.0.1.255:1", "is the rule's own input"),
    ],
)
def test_ambiguous_broadcasts_and_loops_are_refused(rule: str, message: str) -> None:
    """The message says what to write."""
    assert message in problem([rule], TWINS)


def test_a_loop_by_way_of_a_broadcast_is_found() -> None:
    """The kernel gives a broadcast to this host's own sockets too."""
    there = "239.1.1.1%eth0:1 to 255.255.255.255%eth1:1"
    back = "255.255.255.255%eth1:1 to 239.1.1.1%eth0:1"
    assert "makes a loop: its copies come back through rule 2" in problem([there, back])
    elsewhere = back.replace("%eth1:1 to", "%eth0:1 to")
    assert len(resolve([there, elsewhere], NETS, ingress="udp").rules) == 2


@pytest.mark.parametrize("address", ["127.255.255.255", "255.255.255.255%lo"])
def test_the_traffic_tools_support_broadcasts(address: str) -> None:
    """Two receivers share the address, and both get everything."""
    endpoint = f"{address}:46811"
    with (
        mcr.Receiver(endpoint) as first,
        mcr.Receiver(endpoint) as second,
        mcr.Sender(endpoint, size_bytes=100) as sender,
    ):
        assert sender.send(count=20).sent == 20
        for receiver in (first, second):
            report = receiver.receive(20, 10)
            assert (report.received, report.lost) == (20, 0)
