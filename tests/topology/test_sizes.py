"""Datagrams of every size: empty, fragmented, oversize, jumbo, and changing in one flow."""

import pytest
from tests.support.deadline import wait_until

from .checks import dropped, settle, settle_sent
from .lab import Lab
from .namespaces import Namespace
from .relays import Ingress, relaying
from .traffic import payloads

FRAGMENTS_OF_3000 = 3
LARGEST = 65507  # 65535 less the headers of IPv4 and UDP


def fragments_created(namespace: Namespace) -> int:
    """How many IPv4 fragments the namespace has made so far."""
    names, values = (
        line.split() for line in namespace.proc_net("snmp").splitlines() if line.startswith("Ip:")
    )
    return int(values[names.index("FragCreates")])


@pytest.mark.parametrize("size", [3000, 60000, LARGEST])
def test_ipv4_fragments(lab: Lab, ingress: Ingress, gro: bool, size: int) -> None:
    """Datagrams that arrive in fragments are relayed whole, and leave in fragments again."""
    sent = payloads(40, (size,))
    with (
        lab.receive("239.2.20.1", 6001) as receiver,
        relaying(
            lab.relay, "239.1.20.1%in0:5001 to 239.2.20.1%out0:6001", ingress=ingress
        ) as relay,
        lab.sender("239.1.20.1", 5001) as sender,
    ):
        before = fragments_created(lab.relay)
        sender.send(sent)
        receiver.expect(sent)
        stats = settle_sent(relay, len(sent))
        assert stats.interfaces[0].received == len(sent)
        assert fragments_created(lab.relay) - before == len(sent) * -(-(size + 8) // 1480)


def test_ipv6_fragments_with_packet(lab: Lab, gro: bool) -> None:
    """IPv6 fragments are dropped and counted; whole datagrams are relayed."""
    whole = payloads(20)
    with (
        lab.receive("ff15::21:2", 6001) as receiver,
        relaying(
            lab.relay, "ff15::21:1%in0:5001 to ff15::21:2%out0:6001", ingress="packet"
        ) as relay,
        lab.sender("ff15::21:1", 5001) as sender,
    ):
        sender.send(payloads(10, (3000,)) + whole)
        receiver.expect(whole)
        stats = settle_sent(relay, len(whole))
        assert dropped(stats, "in0", "fragment") == 10 * FRAGMENTS_OF_3000


def test_ipv6_fragments_with_udp(lab: Lab, gro: bool) -> None:
    """A UDP socket gets IPv6 datagrams whole, and they leave in fragments again."""
    sent = payloads(40, (3000, 60000, 100))
    with (
        lab.receive("ff15::22:2", 6001) as receiver,
        relaying(lab.relay, "ff15::22:1%in0:5001 to ff15::22:2%out0:6001", ingress="udp") as relay,
        lab.sender("ff15::22:1", 5001) as sender,
    ):
        sender.send(sent)
        receiver.expect(sent)
        settle_sent(relay, len(sent))


def test_oversize_out(lab: Lab, ingress: Ingress) -> None:
    """What a jumbo link brings and a smaller one cannot carry is fragmented, in order."""
    sent = payloads(200, (8000, 8000, 8000, 1400, 1472, 1473))
    with (
        lab.receive("239.2.23.1", 6001) as small,
        lab.receive("239.2.23.2", 6001, "d2") as jumbo,
        relaying(
            lab.relay,
            "239.1.23.1%big:5001 to 239.2.23.1%out0:6001 239.2.23.2%bigout:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.23.1", 5001, interface="s1") as sender,
    ):
        sender.send(sent)
        small.expect(sent)
        jumbo.expect(sent)
        settle_sent(relay, len(sent), len(sent))


def test_oversize_super_frames(lab: Lab, ingress: Ingress) -> None:
    """Super-frames whose segments do not fit the output are sent one by one, in order."""
    sent = payloads(200, (8000,))
    with (
        lab.receive("239.2.24.1", 6001) as small,
        lab.receive("239.2.24.2", 6001, "d2") as jumbo,
        relaying(
            lab.relay,
            "239.1.24.1%big:5001 to 239.2.24.1%out0:6001 239.2.24.2%bigout:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.24.1", 5001, interface="s1") as sender,
    ):
        sender.send_super(sent, batch=8)
        small.expect(sent)
        jumbo.expect(sent)
        settle_sent(relay, len(sent), len(sent))


def test_jumbo(lab: Lab, ingress: Ingress) -> None:
    """With an MTU of 9000 on both sides the largest frame goes through unfragmented."""
    sent = payloads(200, (8972, 8000, 20))
    with (
        lab.receive("239.2.25.1", 6001, "d2") as receiver,
        relaying(
            lab.relay, "239.1.25.1%big:5001 to 239.2.25.1%bigout:6001", ingress=ingress
        ) as relay,
        lab.sender("239.1.25.1", 5001, interface="s1") as sender,
    ):
        before = fragments_created(lab.relay)
        sender.send(sent)
        receiver.expect(sent)
        settle_sent(relay, len(sent))
        assert fragments_created(lab.relay) == before


@pytest.mark.parametrize("group", ["239.1.26.1", "ff15::26:1"])
def test_empty_datagrams_among_others(lab: Lab, ingress: Ingress, gro: bool, group: str) -> None:
    """Empty datagrams keep their place between others."""
    sent = payloads(400, (1400, 0, 0, 1400, 1400, 1400, 8, 0, 200))
    with (
        lab.receive("239.2.26.1", 6001) as receiver,
        relaying(lab.relay, f"{group}%in0:5001 to 239.2.26.1%out0:6001", ingress=ingress) as relay,
        lab.sender(group, 5001) as sender,
    ):
        sender.send(sent)
        receiver.expect(sent)
        settle_sent(relay, len(sent))


def test_stream_of_empty_datagrams(lab: Lab, ingress: Ingress, gro: bool) -> None:
    """Thousands of empty datagrams all arrive, and another flow beside them loses nothing."""
    empty, other = [b""] * 2000, payloads(200)
    with (
        lab.receive("239.2.27.1", 6001) as nothing,
        lab.receive("239.2.27.2", 6001) as something,
        relaying(
            lab.relay,
            "239.1.27.1%in0:5001 to 239.2.27.1%out0:6001",
            "239.1.27.2%in0:5001 to 239.2.27.2%out0:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.27.1", 5001) as sender,
        lab.sender("239.1.27.2", 5001) as beside,
    ):
        for start in range(0, len(empty), 10):
            sender.send(empty[start : start + 10])
            beside.send(other[start // 10 : start // 10 + 1])
        nothing.expect(empty)
        something.expect(other)
        settle_sent(relay, len(empty), len(other))


@pytest.mark.parametrize(
    "sizes",
    [(1400, 200), (200,) * 3 + (1400,) * 5 + (201, 1), (1400,) * 30 + (700,), (100, 101, 102)],
    ids=["alternating", "runs", "short-last", "growing"],
)
def test_size_changes_keep_the_order(
    lab: Lab, ingress: Ingress, gro: bool, sizes: tuple[int, ...]
) -> None:
    """One flow whose datagrams change size leaves every output in arrival order."""
    sent = payloads(400, sizes)
    with (
        lab.receive("239.2.28.1", 6001) as first,
        lab.receive("ff15::28:2", 6001, "d1") as second,
        relaying(
            lab.relay,
            "239.1.28.1%in0:5001 to 239.2.28.1%out0:6001 ff15::28:2%out1:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.28.1", 5001) as sender,
    ):
        sender.send(sent)
        first.expect(sent)
        second.expect(sent)
        settle_sent(relay, len(sent), len(sent))


def test_buffers_follow_the_mtu(lab: Lab) -> None:
    """Frames that grew are dropped and counted for a moment, until the buffers fit them again."""
    lab.set_offload(on=False)
    sent = payloads(10, (5000,))
    with (
        lab.receive("ff15::90:2", 6001) as receiver,
        relaying(
            lab.relay, "ff15::90:1%in0:5001 to ff15::90:2%out0:6001", ingress="packet"
        ) as relay,
        lab.sender("ff15::90:1", 5001) as sender,
    ):
        try:
            for namespace, interface in ((lab.source, "s0"), (lab.relay, "in0")):
                namespace.ip("link", "set", interface, "mtu", "9000")

            def fits() -> bool:
                sender.send(sent[:1])
                return bool(receiver.drain())

            wait_until(fits)
            known = settle(relay, lambda stats: bool(stats.interfaces[0].matched))
            sender.send(sent)
            # What was sent to try it may still come, before these.
            assert receiver.wait_for_payload(sent[-1])[-len(sent) :] == sent
            stats = settle(relay, lambda stats: stats.rules[0].matched >= len(sent))
            cut = [dropped(one, "in0", "truncated_by_us") for one in (known, stats)]
            assert cut[0] == cut[1]
        finally:
            for namespace, interface in ((lab.source, "s0"), (lab.relay, "in0")):
                namespace.ip("link", "set", interface, "mtu", "1500")
