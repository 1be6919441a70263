"""What IPv6 has and IPv4 has not: scopes with a zone, checksums that must be there, more room."""

import json

import pytest

from .checks import dropped, settle, settle_sent
from .frames import TPID_8021Q, Flow, Injector, udp_frame
from .lab import Lab
from .namespaces import Namespace
from .relays import Ingress, relaying
from .traffic import Receiver, Sender, payloads

LARGEST = 65527  # 65535 less the header of UDP: that of IPv6 does not count


def link_local(namespace: Namespace, interface: str) -> str:
    """The address that the kernel gave the interface by itself (RFC 4291, 2.5.6)."""
    (link,) = json.loads(namespace.ip("-j", "-6", "addr", "show", "dev", interface))
    addresses = [each["local"] for each in link["addr_info"] if each["scope"] == "link"]
    return str(addresses[0])


def test_link_local_scopes(lab: Lab, ingress: Ingress, gro: bool) -> None:
    """From a group of the link to a host of the link and to another link's group of that name."""
    host = link_local(lab.receiver, "d0")
    sent = payloads(200)
    with (
        Receiver(lab.receiver, "d0", host, 7000) as unicast,
        lab.receive("ff02::30:1", 5001, "d1") as group,
        relaying(
            lab.relay,
            f"ff02::30:1%in0:5001 to {host}%out0:7000 ff02::30:1%out1:5001",
            ingress=ingress,
        ) as relay,
        lab.sender("ff02::30:1", 5001) as sender,
        lab.sender("ff02::30:1", 5001, interface="s1") as another_link,
    ):
        another_link.send(payloads(20, seed=2))
        (sender.send_super if gro else sender.send)(sent)
        unicast.expect(sent)
        group.expect(sent)
        settle_sent(relay, len(sent), len(sent))
        sources = {source.partition("%")[0] for source, _ in unicast.sources}
        assert sources == {link_local(lab.relay, "out0")}


def test_link_local_unicast_in(lab: Lab, ingress: Ingress) -> None:
    """The relay's own address of the link is an input like any other, once it has its interface."""
    own = link_local(lab.relay, "in0")
    sent = payloads(100)
    with (
        lab.receive("239.2.31.9", 6001) as receiver,
        relaying(lab.relay, f"{own}%in0:5001 to 239.2.31.9%out0:6001", ingress=ingress) as relay,
        Sender(lab.source, "s0", own, 5001) as sender,
    ):
        sender.send(sent)
        receiver.expect(sent)
        settle_sent(relay, len(sent))


def test_source_beside_any_source(lab: Lab, ingress: Ingress, gro: bool) -> None:
    """The rule that names the sender gets it, the one that names none the rest."""
    named, others = payloads(50, seed=1), payloads(50, seed=2)
    with (
        lab.receive("ff15::32:2", 6001) as first,
        lab.receive("ff15::32:3", 6001) as second,
        relaying(
            lab.relay,
            "fd01::2@ff15::32:1%in0:5001 to ff15::32:2%out0:6001",
            "ff15::32:1%in0:5001 to ff15::32:3%out0:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("ff15::32:1", 5001, source=("fd01::2", 0)) as one,
        lab.sender("ff15::32:1", 5001, source=("fd01::3", 0)) as other,
    ):
        (one.send_super if gro else one.send)(named)
        (other.send_super if gro else other.send)(others)
        first.expect(named)
        second.expect(others)
        settle_sent(relay, len(named), len(others))


@pytest.mark.parametrize("wrong", [0, 0x1234], ids=["absent", "wrong"])
def test_checksums(lab: Lab, ingress: Ingress, gro: bool, wrong: int) -> None:
    """In IPv6 an absent one is as bad as a wrong one (RFC 8200, 8.1), whatever GRO thinks of it."""
    flow = Flow("fd01::2", "ff15::33:1", 5001)
    with (
        lab.receive("ff15::33:2", 6001) as receiver,
        relaying(
            lab.relay, "ff15::33:1%in0:5001 to ff15::33:2%out0:6001", ingress=ingress
        ) as relay,
        Injector(lab.source, "s0") as wire,
    ):
        wire.send(udp_frame(flow, b"bad", checksum=wrong), udp_frame(flow, b"right"))
        receiver.expect([b"right"])
        stats = settle_sent(relay, 1)
        # Before a socket the kernel drops it.
        assert dropped(stats, "in0", "bad_checksum") == (1 if ingress == "packet" else 0)


def test_accepted_bad_checksums(lab: Lab, gro: bool) -> None:
    """With --accept-bad-checksums, absent ones are relayed too (RFC 6935), as valid ones."""
    flow = Flow("fd01::2", "ff15::33:3", 5001)
    sent = [b"absent", b"wrong", b"right", b""]
    with (
        lab.receive("ff15::33:4", 6001) as receiver,
        relaying(
            lab.relay,
            "ff15::33:3%in0:5001 to ff15::33:4%out0:6001",
            ingress="packet",
            verify_checksums=False,
        ) as relay,
        Injector(lab.source, "s0") as wire,
    ):
        wire.send(
            udp_frame(flow, sent[0], checksum=0),
            udp_frame(flow, sent[1], checksum=0x1234),
            udp_frame(flow, sent[2]),
            udp_frame(flow, sent[3], checksum=0),
        )
        receiver.expect(sent)
        stats = settle_sent(relay, len(sent))
        assert dropped(stats, "in0", "bad_checksum") == 0


def test_vlan(lab: Lab) -> None:
    """Tags mean the same whatever is behind them."""
    flow = Flow("fd01::2", "ff15::34:1", 5001)
    with (
        lab.receive("ff15::34:2", 6001) as seventh,
        lab.receive("ff15::34:3", 6001) as untagged,
        relaying(
            lab.relay,
            "ff15::34:1%in0:5001,vlan=7 to ff15::34:2%out0:6001",
            "ff15::34:1%in0:5001 to ff15::34:3%out0:6001",
            ingress="packet",
        ) as relay,
        Injector(lab.source, "s0") as wire,
    ):
        wire.send(
            udp_frame(flow, b"eight", tags=((TPID_8021Q, 8),)),
            udp_frame(flow, b"seven", tags=((TPID_8021Q, 7),)),
            udp_frame(flow, b"priority", tags=((TPID_8021Q, 5 << 13),)),
            udp_frame(flow, b"untagged"),
        )
        seventh.expect([b"seven"])
        untagged.expect([b"priority", b"untagged"])
        assert dropped(settle_sent(relay, 1, 2), "in0", "vlan") == 1


def test_the_largest_datagram_fits_ipv6_only(lab: Lab) -> None:
    """20 bytes more than IPv4 takes: an IPv4 output drops it as too big, the others have it."""
    large, small = payloads(5, (LARGEST,)), payloads(5, seed=2)
    with (
        lab.receive("ff15::35:2", 6001) as six,
        lab.receive("239.2.35.1", 6001) as four,
        relaying(
            lab.relay,
            "ff15::35:1%in0:5001 to ff15::35:2%out0:6001 239.2.35.1%out0:6001",
            ingress="udp",
        ) as relay,
        lab.sender("ff15::35:1", 5001) as sender,
    ):
        sender.send(large)
        sender.send(small)
        six.expect(large + small)
        four.expect(small)
        stats = settle(relay, lambda stats: stats.rules[0].matched == 10)
        assert stats.rules[0].outputs[1].dropped["too_big"] == len(large)
