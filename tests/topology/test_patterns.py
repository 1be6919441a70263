"""Rules for blocks of groups and ranges of ports: which rule matches."""

import contextlib
import socket
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network

import pytest
from tests.support.deadline import wait_until

from .checks import dropped, settle, settle_sent
from .frames import TPID_8021Q, Flow, Injector, udp_frame
from .lab import Lab
from .relays import Ingress, relaying
from .test_memberships import joins, nothing_left, udp_sockets
from .traffic import PacedFlow, Receiver, Sender, payloads

Place = tuple[str, int]
RATE_PPS = 8000
LARGEST_FRAME_BYTES = 1514
ETH_P_ALL = 3


def places(block: str, ports: Iterable[int]) -> list[Place]:
    """Every group of a block with every port."""
    return [(str(group), port) for group in ip_network(block) for port in ports]


def scatter(sender: Sender, where: Sequence[Place]) -> list[bytes]:
    """Send one datagram to each place, and return them; each names its place."""
    sent = [f"{group} {port}".encode() for group, port in where]
    for payload, place in zip(sent, where, strict=True):
        sender.socket.sendto(payload, place)
    return sent


def expect_all(receiver: Receiver, datagrams: Iterable[bytes]) -> None:
    """Wait for exactly these, in any order: flows are on sockets of their own with udp."""
    expected = sorted(datagrams)
    assert sorted(receiver.wait_for(len(expected))) == expected


@pytest.mark.parametrize(
    ("block", "group"),
    [("239.1.80.0/28", "239.2.80.1"), ("ff15::80:0/124", "ff15::80:1:1")],
    ids=["v4", "v6"],
)
def test_a_block_is_relayed(lab: Lab, ingress: Ingress, gro: bool, block: str, group: str) -> None:
    """Each of 16 groups and 16 ports goes to the one output; their neighbours do not."""
    first = str(ip_network(block)[0])
    beside = [(first, 4999), (first, 5016), (str(ip_network(block)[0] + 16), 5000)]
    with (
        lab.receive(group, 6001) as receiver,
        relaying(
            lab.relay, f"{block}%in0:5000-5015 to {group}%out0:6001", ingress=ingress
        ) as relay,
        lab.sender(first, 5000) as sender,
    ):
        scatter(sender, beside)
        sent = scatter(sender, places(block, range(5000, 5016)))
        expect_all(receiver, sent)
        stats = settle_sent(relay, len(sent))
        # What is outside the block, the kernel keeps away.
        wrong_port = 2 if ingress == "packet" else 0
        assert dropped(stats, "in0", "no_rule") == wrong_port
        assert stats.interfaces[0].received == len(sent) + wrong_port


def test_the_most_specific_rule_wins(lab: Lab, ingress: Ingress) -> None:
    """Exact beats a smaller block, that a larger one, and in one block fewer ports beat more."""
    inputs = [
        ("239.1.81.1/32", range(5001, 5002)),
        ("239.1.81.1/32", range(5000, 5004)),
        ("239.1.81.0/29", range(5002, 5003)),
        ("239.1.81.0/29", range(5000, 5006)),
        ("239.1.81.0/28", range(5003, 5004)),
        ("239.1.81.0/28", range(5000, 5008)),
    ]
    rules = [
        f"{block}%in0:{ports[0]}-{ports[-1]} to 239.2.81.1%out0:{6000 + number}"
        for number, (block, ports) in enumerate(inputs)
    ]
    where = places("239.1.81.0/28", range(5000, 5008))
    wanted: list[list[bytes]] = [[] for _ in inputs]
    with contextlib.ExitStack() as stack:
        receivers = [
            stack.enter_context(lab.receive("239.2.81.1", 6000 + number))
            for number in range(len(inputs))
        ]
        relay = stack.enter_context(relaying(lab.relay, *reversed(rules), ingress=ingress))
        sender = stack.enter_context(lab.sender("239.1.81.0", 5000))
        sent = scatter(sender, where)
        for payload, (group, port) in zip(sent, where, strict=True):
            taker = next(
                number
                for number, (block, ports) in enumerate(inputs)
                if ip_address(group) in ip_network(block) and port in ports
            )
            wanted[taker].append(payload)
        for receiver, payloads_of_rule in zip(receivers, wanted, strict=True):
            expect_all(receiver, payloads_of_rule)
        settle_sent(relay, *(len(each) for each in reversed(wanted)))
    assert all(wanted)


def test_sources_beside_any_beside_a_block(lab: Lab, ingress: Ingress) -> None:
    """(S,G) takes its source, the block the rest; with (*,G) beside, that takes the rest."""
    with (
        lab.receive("239.2.82.1", 6001) as listed,
        lab.receive("239.2.82.2", 6001) as block,
        lab.receive("239.2.82.3", 6001) as any_source,
        relaying(
            lab.relay,
            "10.1.0.2@239.1.82.1%in0:5001 to 239.2.82.1%out0:6001",
            "239.1.82.0/28%in0:5001 to 239.2.82.2%out0:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.82.1", 5001, source=("10.1.0.2", 0)) as known,
        lab.sender("239.1.82.1", 5001, source=("10.1.0.3", 0)) as stranger,
    ):
        known.send([b"known 1"])
        stranger.send([b"stranger 1"])
        listed.expect([b"known 1"])
        block.expect([b"stranger 1"])
        with lab.relay:
            relay.add_rule("239.1.82.1%in0:5001 to 239.2.82.3%out0:6001")
        known.send([b"known 2"])
        stranger.send([b"stranger 2"])
        any_source.expect([b"stranger 2"])
        listed.expect([b"known 1", b"known 2"])
        settle_sent(relay, 2, 1, 1)


def test_a_source_that_no_level_takes_is_counted(lab: Lab) -> None:
    """With sources on the exact rule and on the block, a third sender is refused as `source`."""
    with (
        lab.receive("239.2.83.1", 6001) as receiver,
        relaying(
            lab.relay,
            "10.1.0.9@239.1.83.1%in0:5001 to 239.2.83.1%out0:6001",
            "10.1.0.2@239.1.83.0/28%in0:5000-5009 to 239.2.83.1%out0:6001",
            ingress="packet",
        ) as relay,
        lab.sender("239.1.83.1", 5001, source=("10.1.0.2", 0)) as known,
        lab.sender("239.1.83.1", 5001, source=("10.1.0.3", 0)) as stranger,
    ):
        stranger.send([b"stranger"])
        known.send([b"known"])
        receiver.expect([b"known"])
        stats = settle_sent(relay, 0, 1)
        assert dropped(stats, "in0", "source") == 1
        assert "none from 10.1.0.9 (last from 10.1.0.3)" in stats.rules[0].state


def test_a_block_for_a_vlan(lab: Lab) -> None:
    """A block takes frames with its tag only, and says what it sees instead."""
    flow = Flow("10.1.0.2", "239.1.84.5", 5004)
    with (
        lab.receive("239.2.84.1", 6001) as receiver,
        relaying(
            lab.relay,
            "239.1.84.0/28%in0:5000-5009,vlan=7 to 239.2.84.1%out0:6001",
            ingress="packet",
        ) as relay,
        Injector(lab.source, "s0") as wire,
    ):
        wire.send(udp_frame(flow, b"plain"), udp_frame(flow, b"eight", tags=((TPID_8021Q, 8),)))
        stats = settle(relay, lambda stats: stats.interfaces[0].received == 2)
        assert dropped(stats, "in0", "vlan") == 2
        assert stats.rules[0].state == "frames for 239.1.84.0/28 seen, none with VLAN tag 7"
        wire.send(udp_frame(flow, b"seven", tags=((TPID_8021Q, 7),)))
        receiver.expect([b"seven"])
        settle_sent(relay, 1)


def test_the_state_of_a_range(lab: Lab) -> None:
    """A port beside the range is named, with the range that was asked for."""
    with (
        relaying(
            lab.relay, "239.1.85.0/28%in0:5000-5009 to 239.2.85.1%out0:6001", ingress="packet"
        ) as relay,
        lab.sender("239.1.85.3", 5010) as sender,
    ):
        assert relay.stats().rules[0].state == "joined, no frame seen on in0"
        sender.send([b"astray"])
        state = "frames seen, none for port 5000-5009 (239.1.85.0/28 arrives for port 5010)"
        wait_until(lambda: relay.stats().rules[0].state == state, what=state)


def test_ports_of_an_address_of_this_host(lab: Lab, ingress: Ingress) -> None:
    """A range of ports of a local address is relayed, and the host refuses none of them."""
    with (
        lab.receive("239.2.86.1", 6001) as receiver,
        relaying(
            lab.relay, "10.1.0.1%in0:5200-5215 to 239.2.86.1%out0:6001", ingress=ingress
        ) as relay,
        lab.sender("10.1.0.1", 5200) as sender,
    ):
        assert udp_sockets(lab.relay) >= 16
        sent = scatter(sender, [("10.1.0.1", port) for port in range(5200, 5216)])
        expect_all(receiver, sent)
        settle_sent(relay, len(sent))
        assert sender.refusal() == 0


def test_a_flow_goes_from_rule_to_block_and_back(lab: Lab, ingress: Ingress) -> None:
    """A group's own rule gives way to one for its block and comes back: nothing is lost."""
    output = "239.2.97.1%out0:6001"
    single, block = "239.1.97.1%in0:5001", "239.1.97.0/28%in0:5000-5003"
    with (
        lab.receive("239.2.97.1", 6001) as receiver,
        relaying(lab.relay, f"{single} to {output}", ingress=ingress) as relay,
        lab.sender("239.1.97.1", 5001) as sender,
    ):
        with PacedFlow(sender, RATE_PPS) as flow:
            with lab.relay:
                for taken in 10 * (block, single):
                    flow.advance(20)
                    relay.replace_rules([f"{taken} to {output}"])
            flow.advance(20)
        expect_all(receiver, flow.sent)


def test_removing_blocks_closes_what_they_opened(lab: Lab, ingress: Ingress) -> None:
    """Helpers, joins and sockets of blocks go with their rules."""
    wait_until(lambda: nothing_left(lab.relay))
    rules = [
        "239.1.92.0/28%in0:5000-5009 to 239.2.92.1%out0:6001",
        "239.1.92.16/28%in0:5005-5014 to 239.2.92.2%out0:6001",
        "10.1.0.1%in0:5100-5109 to 239.2.92.3%out0:6001",
    ]
    with relaying(lab.relay, "10.2.0.1%out0:5001 to 10.2.0.2:7000", ingress=ingress) as relay:
        before = udp_sockets(lab.relay)
        with lab.relay:
            added = [relay.add_rule(rule) for rule in rules]
            assert udp_sockets(lab.relay) > before
            for rule in added:
                relay.remove_rule(rule)
        wait_until(lambda: udp_sockets(lab.relay) == before)
        assert not joins(lab.relay)


def largest_frame(lab: Lab, sender: Sender, count: int) -> int:
    """The longest frame at the relay's input, of this many datagrams sent in bursts."""
    with lab.relay:
        observer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    with observer:
        observer.bind(("in0", ETH_P_ALL))
        observer.settimeout(5)
        sender.send_super(payloads(count, (200,)))
        seen, longest = 0, 0
        while seen < count:
            length = len(observer.recv(65535))
            longest = max(longest, length)
            seen += (length - 42) // 200
    return longest


@pytest.mark.parametrize(("last_port", "merged"), [(5009, True), (5300, False)])
def test_the_kernel_merges_for_a_block(lab: Lab, last_port: int, merged: bool) -> None:
    """With up to 256 ports single frames become super-frames; with more they stay single."""
    lab.set_offload(on=True)
    lab.source.offload("s0", tx_udp_segmentation=False)
    with (
        lab.receive("239.2.93.1", 6001) as receiver,
        relaying(
            lab.relay,
            f"239.1.93.0/28%in0:5000-{last_port} to 239.2.93.1%out0:6001",
            ingress="packet",
        ) as relay,
        lab.sender("239.1.93.7", 5005) as sender,
    ):

        def merges() -> bool:
            receiver.forget()
            longest = largest_frame(lab, sender, 200)
            receiver.expect(payloads(200, (200,)))
            return longest > LARGEST_FRAME_BYTES

        if merged:
            wait_until(merges)
        else:
            assert not any(merges() for _ in range(8))
        settle(relay, lambda stats: stats.rules[0].outputs[0].pending == 0)


def test_a_program_keeps_its_unicast_beside_a_block(lab: Lab) -> None:
    """Helper sockets receive nothing instead of a program, whichever is opened first."""
    rule = "239.1.94.0/28%in0:5300-5301 to 239.2.94.1%out0:6001"

    def program(port: int) -> socket.socket:
        with lab.relay:
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(("0.0.0.0", port))
        opened.settimeout(5)
        return opened

    with (
        program(5300) as before,
        relaying(lab.relay, rule, ingress="packet"),
        program(5301) as after,
        lab.sender("10.1.0.1", 5300) as to_before,
        lab.sender("10.1.0.1", 5301) as to_after,
    ):
        to_before.send([b"before"])
        to_after.send([b"after"])
        assert before.recv(100) == b"before"
        assert after.recv(100) == b"after"
