"""Copies that leave through AF_XDP: what arrives of them, also while the host changes."""

import contextlib
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from tests.support.deadline import wait_until

from .bursts import BurstSender, LinkReceiver
from .checks import HasDict, assert_balanced, settle
from .daemons import serving
from .deaths import kill
from .egress import (
    MIXED,
    OUT_PORT,
    TBF,
    WARM_S,
    BurstFlow,
    Kind,
    ReadStats,
    copy_group,
    expect_all,
    firewall,
    flow,
    output,
    relayed,
    rule,
    send_in_bursts,
    send_until,
    sent_counts,
    single_frames,
    wait_for_ways,
    ways,
)
from .frames import group_mac
from .lab import Lab
from .relays import Ingress
from .traffic import Marks, Receiver, payloads

SENT = MIXED


@pytest.fixture(autouse=True)
def _single_frames(lab: Lab) -> None:
    single_frames(lab)


@contextlib.contextmanager
def flowing(
    lab: Lab, kind: Kind, ingress: Ingress
) -> Iterator[tuple[BurstFlow, LinkReceiver, ReadStats]]:
    """A flow whose copies leave through AF_XDP, and what arrives of them."""
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        relayed(lab, kind, ingress, rule(1, output(1))) as stats,
        BurstSender(lab.source, "s0") as sender,
        BurstFlow(sender, 1) as sending,
    ):
        wait_until(lambda: ways(stats()) == ["xdp"], WARM_S)
        yield sending, link, stats


@pytest.mark.parametrize("version", [4, 6])
def test_copies_are_whole_and_in_order(
    lab: Lab, kind: Kind, ingress: Ingress, version: int
) -> None:
    """Contents, headers and checksums are right; batches leave from the same socket address."""
    target = copy_group(1, version)
    text = rule(1, f"{target}%out0:{OUT_PORT},ttl=5,dscp=46", version=version)
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        relayed(lab, kind, ingress, text) as stats,
        BurstSender(lab.source, "s0") as sender,
    ):
        send_until(["xdp"], sender, [flow(1, version)], stats)
        warm = sent_counts(stats())[0]
        link.wait_for(warm)
        before = {each.source for each in link.seen}
        link.forget()
        send_in_bursts(sender, [flow(1, version)], SENT, stats)
        assert ways(stats()) == ["xdp"]
        seen = link.wait_for(len(SENT))
        assert link.payloads(OUT_PORT) == SENT
        own = "10.2.0.1" if version == 4 else "fd02::1"
        macs = (group_mac(ip_address(target)), lab.relay.mac("out0"))
        assert {each.macs for each in seen} == {macs}
        assert [each.source[0] for each in seen] == [own] * len(SENT)
        assert {each.source for each in seen} == before, "the two ways differ"
        assert {each.destination for each in seen} == {(target, OUT_PORT)}
        assert {each.marks for each in seen} == {Marks(5, 46)}
        assert all(each.has_checksums for each in seen)
        same = payloads(1024, (200,))
        send_until(["batches"], sender, [flow(1, version)], stats, same)
        copies = sent_counts(stats())[0] - warm
        link.wait_for(copies)
        rounds = (copies - len(SENT)) // len(same)
        assert rounds > 0
        assert link.payloads(OUT_PORT)[len(SENT) :] == same * rounds


def test_outputs_on_two_interfaces(lab: Lab, kind: Kind, ingress: Ingress) -> None:
    """Each of four gets every datagram of its rule."""
    targets = [output(number, f"out{number % 2}") for number in range(4)]
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as even,
        LinkReceiver(lab.receiver, "d1", [OUT_PORT]) as odd,
        relayed(lab, kind, ingress, rule(1, *targets)) as stats,
        BurstSender(lab.source, "s0") as sender,
    ):
        send_until(["xdp"] * 4, sender, [flow(1)], stats)
        count = sent_counts(stats())[0]
        for link in (even, odd):
            link.wait_for(2 * count)
            link.forget()
        send_in_bursts(sender, [flow(1)], SENT, stats)
        assert ways(stats()) == ["xdp"] * 4
        assert sent_counts(stats()) == [count + len(SENT)] * 4
        for number in range(4):
            link = odd if number % 2 else even
            link.wait_for(2 * len(SENT))
            to_it = [each for each in link.seen if each.destination[0] == copy_group(number)]
            assert [each.payload for each in to_it] == SENT
            assert all(each.has_checksums for each in to_it)


def test_twenty_flows(lab: Lab, ingress: Ingress) -> None:
    """They interleave, and each keeps its order."""
    flows = [flow(number) for number in range(1, 21)]
    rules = [rule(number, output(number)) for number in range(1, 21)]
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        relayed(lab, "library", ingress, *rules) as stats,
        BurstSender(lab.source, "s0") as sender,
    ):
        send_until(["xdp"] * 20, sender, flows, stats)
        link.wait_for(sum(sent_counts(stats())))
        link.forget()
        send_in_bursts(sender, flows, SENT[:240], stats)
        assert ways(stats()) == ["xdp"] * 20
        seen = link.wait_for(20 * 240)
        for number in range(1, 21):
            to_it = [each for each in seen if each.destination[0] == copy_group(number)]
            assert [each.payload for each in to_it] == SENT[:240]


def test_a_demand_holds_for_batches_too(lab: Lab, ingress: Ingress) -> None:
    """With `egress=xdp` datagrams of one size leave through AF_XDP."""
    sent = payloads(1024, (200,))
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        relayed(lab, "library", ingress, rule(1, output(1)), egress="xdp") as stats,
        BurstSender(lab.source, "s0") as sender,
    ):
        send_in_bursts(sender, [flow(1)], sent, stats)
        assert (ways(stats()), sent_counts(stats())) == (["xdp"], [len(sent)])
        link.wait_for(len(sent))
        assert link.payloads(OUT_PORT) == sent


def test_a_member_that_joins_while_copies_flow(lab: Lab, kind: Kind, ingress: Ingress) -> None:
    """It gets its copies a moment later; the other host misses none, in order."""
    with flowing(lab, kind, ingress) as (sending, link, stats):
        with Receiver(lab.relay, "out0", copy_group(1), OUT_PORT) as local:
            wait_for_ways(stats, "local_member")
            local.wait_for(1)
            local.forget()
            sending.advance()
            local.wait_for(500)
            got = list(local.collected)
            sending.advance(64)  # what is on its way is noted after it was sent
            first = sending.sent.index(got[0])
            assert got == sending.sent[first : first + len(got)]
        wait_until(lambda: ways(stats()) == ["xdp"], WARM_S)
        expect_all(link, sending, stats)


def test_a_discipline_and_a_firewall_while_copies_flow(
    lab: Lab, kind: Kind, ingress: Ingress
) -> None:
    """Copies take the way through them a moment later; none is lost or overtaken."""
    with flowing(lab, kind, ingress) as (sending, link, stats):
        with contextlib.ExitStack() as shaped:
            shaped.enter_context(lab.relay.shaped("out0", *TBF))
            wait_for_ways(stats, "discipline")
            before = lab.relay.qdisc("out0")["packets"]
            sending.advance()
            wait_until(lambda: lab.relay.qdisc("out0")["packets"] - before >= 400)
            with sending.paused():  # a discipline that is removed drops what it holds
                wait_until(lambda: sent_counts(stats()) == [len(sending.sent)])
                shaped.close()
                lab.relay.queue("out0", on=False)
        wait_until(lambda: ways(stats()) == ["xdp"], WARM_S)
        with firewall(lab.relay):
            wait_for_ways(stats, "firewall")
            sending.advance()
        wait_until(lambda: ways(stats()) == ["xdp"], WARM_S)
        expect_all(link, sending, stats)


def test_the_link_while_copies_flow(lab: Lab, kind: Kind, ingress: Ingress) -> None:
    """What has no carrier or interface is counted; afterwards AF_XDP is used again."""
    with flowing(lab, kind, ingress) as (sending, link, stats):
        for place, name in ((lab.receiver, "d0"), (lab.relay, "out0")):
            with place.down(name):
                sending.advance()
            sending.advance()
            wait_until(lambda: ways(stats()) == ["xdp"], WARM_S)
        sending.stop()
        wait_until(lambda: is_complete(stats(), len(sending.sent)))
        assert stats().as_dict()["rules"][0]["outputs"][0]["dropped"]["no_carrier"] > 0
        arrived = iter(sending.sent)
        assert all(payload in arrived for payload in link.payloads(OUT_PORT))


def is_complete(stats: HasDict, count: int) -> bool:
    """Whether so many copies were asked for, and each was sent or lost."""
    assert_balanced(stats)
    found = stats.as_dict()["rules"][0]["outputs"][0]
    return bool(found["wanted"] == count and found["pending"] == 0)


def test_a_worker_that_dies_while_copies_flow(lab: Lab, ingress: Ingress) -> None:
    """Its successor uses AF_XDP too; what it held is missing, nothing is twice or late."""
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        serving(lab.relay, "--ingress", ingress) as daemon,
        daemon.client() as client,
        BurstSender(lab.source, "s0") as sender,
    ):
        client.add_rule(rule(1, output(1)))
        with BurstFlow(sender, 1) as sending:
            wait_until(lambda: ways(client.stats()) == ["xdp"], WARM_S)
            (old,) = daemon.workers
            kill(old)
            wait_until(lambda: daemon.workers not in ([], [old]), WARM_S)
            sending.advance()
            wait_until(lambda: ways(client.stats()) == ["xdp"], WARM_S)
        wait_until(lambda: link.payloads(OUT_PORT)[-1] == sending.sent[-1], WARM_S)
        settle(client, lambda stats: ways(stats) == ["xdp"])
        wanted = iter(sending.sent)
        arrived = link.payloads(OUT_PORT)
        assert all(payload in wanted for payload in arrived), "reordered or twice"
