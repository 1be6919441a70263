"""Rules with many outputs in the kernel: another CPU copies, or the engine if it is faster."""

from collections.abc import Callable
from itertools import groupby

import pytest
from tests.support.deadline import wait_until

import mcr

from .bursts import BurstSender, LinkReceiver, mixed_payloads
from .checks import assert_balanced, settle
from .egress import (
    BURST,
    OUT_PORT,
    TBF,
    WARM_S,
    BurstFlow,
    copy_group,
    flow,
    output,
    rule,
    sent_counts,
)
from .frames import udp_frame
from .lab import Lab
from .offload import native, offloading, relayers, wait_for_relayers

MANY = 16
MOST = 32
"""A CPU copies eight frames at once, and the queue of a veth holds 256 copies."""


@pytest.fixture(autouse=True)
def _native(lab: Lab) -> None:
    native(lab)


def to_many(count: int) -> str:
    """A rule with one output on out0, and all others on out1."""
    others = (output(number, "out1") for number in range(2, count + 1))
    return rule(1, output(1), *others)


def expect_in_order(link: LinkReceiver, sending: BurstFlow, stats: Callable[[], mcr.Stats]) -> None:
    """The first output's receiver has everything in order, and all copies are accounted for.

    On a busy machine the kernel may leave copies in the queue of a veth until it is full.
    """
    sending.stop()
    count = len(sending.sent)

    def is_accounted() -> bool:
        assert_balanced(stats())
        outputs = stats().rules[0].outputs
        return {each.sent + each.dropped["device_full"] for each in outputs} == {count}

    wait_until(is_accounted, WARM_S, str(stats().rules[0]))
    link.wait_for(count)
    assert link.payloads(OUT_PORT) == sending.sent
    assert stats().rules[0].matched == count


def test_a_burst_to_many_outputs_arrives_whole(lab: Lab) -> None:
    """There are more copies at once than the queue of a veth holds."""
    sent = mixed_payloads(BURST)
    with (
        LinkReceiver(lab.receiver, "d1", [OUT_PORT]) as link,
        offloading(lab, rule(1, *(output(number, "out1") for number in range(MANY)))) as relay,
        BurstSender(lab.source, "s0") as sender,
    ):
        sender.send([udp_frame(flow(1), payload) for payload in sent])
        settle(relay, lambda stats: sent_counts(stats) == [BURST] * MANY)
        link.wait_for(MANY * BURST)
        for number in range(MANY):
            to_it = [each for each in link.seen if each.destination[0] == copy_group(number)]
            assert [each.payload for each in to_it] == sent
        assert relay.stats().rules[0].matched == BURST


def test_a_rule_with_many_outputs_leaves_and_returns(lab: Lab) -> None:
    """What waits for the copying CPU leaves before what the engine gets."""
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        offloading(lab, to_many(MANY), offload="auto") as relay,
        BurstSender(lab.source, "s0") as sender,
        BurstFlow(sender, 1, receiver=link) as sending,
    ):
        for _ in range(2):
            wait_for_relayers(relay, "kernel")
            sending.advance()
            with lab.relay.shaped("out1", *TBF):
                wait_for_relayers(relay, "rate")
                sending.advance()
        expect_in_order(link, sending, relay.stats)


def test_the_engine_relays_equal_sizes_to_many_outputs(lab: Lab) -> None:
    """The rule moves once for each change of the stream, and says why."""
    ways: list[str] = []
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        offloading(lab, to_many(MOST), offload="auto") as relay,
        BurstSender(lab.source, "s0") as sender,
        BurstFlow(sender, 1, receiver=link) as sending,
    ):

        def moves_to(wanted: str) -> Callable[[], bool]:
            def has_moved() -> bool:
                stats = relay.stats()
                assert_balanced(stats)
                ways.extend(relayers(stats))
                return ways[-1] == wanted

            return has_moved

        sending.advance()
        for wanted in ("kernel", "batches", "kernel"):
            sending.has_equal_sizes = wanted == "batches"
            # At last so few that the engine is done before the next ones come, also if it is slow.
            sending.burst = 4 if "batches" in ways else 64
            wait_until(moves_to(wanted), WARM_S)
            detail = relay.stats().rules[0].offload_detail or ""
            assert ("equal sizes" in detail) == (wanted == "batches"), detail
            sending.advance()
        expect_in_order(link, sending, relay.stats)
    seen = [way for way, _ in groupby(ways) if way != "pause"]
    assert seen == ["kernel", "batches", "kernel"]
