"""Captures of merging rules: what became of each datagram, and the copies of what was sent."""

import pytest
from scapy.layers.inet import UDP
from scapy.layers.l2 import Ether
from tests.support.deadline import wait_until

import mcr

from .checks import assert_balanced
from .egress import Kind
from .feeds import RULE, Feeds, number_of, rtp
from .lab import Lab
from .test_merge_workers import add, several


def packet_number(record: mcr.DatagramRecord) -> int:
    """The number of the packet in a recorded frame."""
    return number_of(bytes(Ether(record.frame)[UDP].payload))


@pytest.mark.parametrize("reorder", [False, True])
def test_a_capture_shows_what_becomes_of_each_datagram(lab: Lab, kind: Kind, reorder: bool) -> None:
    """Of single datagrams and of super-frames, on both inputs; copies refer to what arrived."""
    rule = RULE.replace("merge=rtp", "merge=rtp,reorder=300ms") if reorder else RULE
    first, second = [n for n in range(40) if n % 4 != 1], list(range(40))
    with several(lab, "packet", kind) as relay, Feeds(lab) as feeds:
        add(lab, relay, rule)
        with lab.relay:
            stream = relay.capture("pair")
        with stream:
            feeds.send(0, first)
            if not reorder:
                feeds.receiver.wait_for(len(first))
            feeds.senders[1].send_super([rtp(n) for n in second])
            assert sorted(map(number_of, feeds.receiver.wait_for(40))) == second
            records: list[mcr.DatagramRecord] = []

            def has_all() -> bool:
                while (record := stream.read(0.05)) is not None:
                    records.append(record)
                return len(records) >= len(first) + 2 * 40

            wait_until(has_all)
            assert stream.lost == 0
        assert_balanced(relay.stats())
    assert {record.rule_name for record in records} == {"pair"}
    by_step = {
        step: sorted(packet_number(each) for each in records if (each.step, each.reason) == step)
        for step in {(each.step, each.reason) for each in records}
    }
    assert by_step == {
        ("matched", None): second,
        ("discarded", "duplicate"): first,
        ("sent", None): second,
    }
    # A copy has the number of the datagram that it comes from.
    came = {(r.worker, r.datagram): packet_number(r) for r in records if r.step == "matched"}
    for record in records:
        if record.step == "sent":
            assert came[record.worker, record.datagram] == packet_number(record)
    interfaces = {record.interface for record in records if record.reason == "duplicate"}
    assert reorder or interfaces == {"big"}
