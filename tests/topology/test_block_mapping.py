"""Blocks of groups and ranges of ports map one to one onto those of an output."""

import contextlib
from ipaddress import ip_address, ip_network

import pytest

from .checks import settle_sent
from .daemons import serving
from .lab import Lab
from .relays import Ingress, relaying
from .test_patterns import Place, expect_all, places, scatter
from .traffic import payloads

MAPPED = [
    ("239.1.95.0/28", "5000-5015", "239.2.95.0/28", "6000-6015"),
    ("239.1.95.0/28", "5000-5015", "ff15::95:0/124", "6000-6015"),
    ("ff15::1:95:0/124", "5000-5015", "239.2.95.0/28", "6000-6015"),
    ("239.1.95.0/28", "5000-5015", "239.1.95.0/28", "5000-5015"),
    ("239.1.95.0/28", "5000-5015", "239.2.95.0/28", "6001"),
    ("239.1.95.0/28", "5000-5015", "239.2.95.1", "6000-6015"),
    ("239.1.95.7", "5000-5015", "239.2.95.1", "6000-6015"),
    ("239.1.95.0/28", "5000", "10.2.0.2", "6001"),
    ("239.1.95.0/28", "5000-5015", "10.2.0.2", "6000-6015"),
]


def port_numbers(ports: str) -> range:
    """The ports that are written so."""
    first, _, last = ports.partition("-")
    return range(int(first), int(last or first) + 1)


@pytest.mark.parametrize(("block", "ports", "to_block", "to_ports"), MAPPED)
def test_blocks_map_one_to_one(
    lab: Lab, ingress: Ingress, block: str, ports: str, to_block: str, to_ports: str
) -> None:
    """Each group and port goes to the one in its place, or all of them to a single one."""
    groups, targets = list(ip_network(block)), list(ip_network(to_block))
    taken, sent_to = port_numbers(ports), port_numbers(to_ports)
    wanted: dict[Place, list[bytes]] = {}
    with contextlib.ExitStack() as stack:
        receivers = {
            (str(target), port): stack.enter_context(lab.receive(str(target), port))
            for target in targets
            for port in sent_to
        }
        relay = stack.enter_context(
            relaying(
                lab.relay, f"{block}%in0:{ports} to {to_block}%out0:{to_ports}", ingress=ingress
            )
        )
        sender = stack.enter_context(lab.sender(str(groups[0]), taken[0]))
        where = places(block, taken)
        for payload, (group, port) in zip(scatter(sender, where), where, strict=True):
            at_group = groups.index(ip_address(group)) if len(targets) > 1 else 0
            at_port = taken.index(port) if len(sent_to) > 1 else 0
            wanted.setdefault((str(targets[at_group]), sent_to[at_port]), []).append(payload)
        for place, receiver in receivers.items():
            expect_all(receiver, wanted[place])
        settle_sent(relay, len(where))


def test_a_daemon_maps_a_block_to_the_other_family(lab: Lab, ingress: Ingress) -> None:
    """What the library relays, a worker takes too."""
    rule = "239.1.96.0/28%in0:5001 to ff15::96:0/124%out0:6001"
    arguments = ("--ingress", ingress)
    with (
        lab.receive("ff15::96:5", 6001) as receiver,
        serving(lab.relay, *arguments) as daemon,
        daemon.client() as client,
        lab.sender("239.1.96.5", 5001) as sender,
    ):
        client.add_rule(rule)
        sent = payloads(20)
        sender.send(sent)
        receiver.expect(sent)
        settle_sent(client, len(sent))


def test_a_mapped_flow_keeps_its_order_and_its_bytes(lab: Lab, ingress: Ingress, gro: bool) -> None:
    """Two interleaved flows of a block leave for two groups, each in its order, byte for byte."""
    one, other = payloads(200, (1400, 200, 0, 1)), payloads(200, (1400,), seed=2)
    with (
        lab.receive("239.2.96.3", 6002) as first,
        lab.receive("239.2.96.9", 6007) as second,
        relaying(
            lab.relay,
            "239.1.96.0/28%in0:5000-5009 to 239.2.96.0/28%out0:6000-6009",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.96.3", 5002) as near,
        lab.sender("239.1.96.9", 5007) as far,
    ):
        for start in range(0, 200, 20):
            near.send(one[start : start + 20])
            far.send_super(other[start : start + 20])
        first.expect(one)
        second.expect(other)
        settle_sent(relay, 400)
