"""Rules that move between the kernel and the engine while their streams run."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from tests.support.deadline import wait_until

import mcr

from .bursts import BurstSender, LinkReceiver
from .checks import assert_balanced
from .egress import (
    OUT_PORT,
    TBF,
    WARM_S,
    BurstFlow,
    copy_group,
    firewall,
    flow,
    output,
    rule,
    sent_counts,
)
from .lab import Lab
from .offload import native, offloading, relayers, wait_for_relayers
from .relays import Ingress
from .traffic import Receiver

Obstacle = Callable[[Lab], AbstractContextManager[object]]


@pytest.fixture(autouse=True)
def _native(lab: Lab) -> None:
    native(lab)


@contextlib.contextmanager
def flowing(
    lab: Lab, *texts: str, ingress: Ingress = "packet", workers: int = 1, version: int = 4
) -> Iterator[tuple[BurstFlow, LinkReceiver, mcr.Relay]]:
    """A relay of these rules, the first of which is in the kernel and has a running stream."""
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        offloading(lab, *texts, offload="auto", ingress=ingress, workers=workers) as relay,
        BurstSender(lab.source, "s0") as sender,
        BurstFlow(sender, 1, version) as sending,
    ):
        assert relayers(relay.stats())[0] == "kernel"
        sending.advance()
        yield sending, link, relay


def expect_all(link: LinkReceiver, sending: BurstFlow, relay: mcr.Relay) -> None:
    """Everything sent has arrived, once and in order, and is counted."""
    sending.stop()
    count = len(sending.sent)
    wait_until(lambda: sent_counts(relay.stats())[0] == count, WARM_S, str(relay.stats().rules[0]))
    link.wait_for(count)
    assert link.payloads(OUT_PORT) == sending.sent
    stats = relay.stats()
    assert_balanced(stats)
    assert stats.rules[0].matched == count
    assert stats.rules[0].lost == 0


OBSTACLES: dict[str, Obstacle] = {
    "rate": lambda lab: lab.relay.shaped("out0", *TBF),
    "firewall": lambda lab: firewall(lab.relay),
    "member": lambda lab: Receiver(lab.relay, "out0", copy_group(1), OUT_PORT),
}


@pytest.mark.parametrize("reason", OBSTACLES)
def test_a_rule_leaves_and_returns_with_the_reason(lab: Lab, ingress: Ingress, reason: str) -> None:
    """Both ways in the running stream: nothing is lost, doubled or out of order."""
    with (
        flowing(lab, rule(1, output(1)), ingress=ingress) as (sending, link, relay),
        contextlib.ExitStack() as stack,
    ):
        stack.enter_context(OBSTACLES[reason](lab))
        wait_for_relayers(relay, reason)
        sending.advance()
        # A discipline that is removed loses what it holds.
        with sending.paused() if reason == "rate" else contextlib.nullcontext():
            wait_until(lambda: len(link.drain()) == len(sending.sent) or reason != "rate")
            stack.close()
        wait_for_relayers(relay, "kernel")
        sending.advance()
        expect_all(link, sending, relay)


def test_two_engines(lab: Lab, ingress: Ingress) -> None:
    """A rule moves only when all of them have finished."""
    others = [rule(number, output(number)) for number in range(2, 6)]
    texts = [rule(1, output(1)), *others]
    with flowing(lab, *texts, ingress=ingress, workers=2) as (sending, link, relay):
        with firewall(lab.relay):
            wait_for_relayers(relay, *["firewall"] * 5)
            sending.advance()
        wait_for_relayers(relay, *["kernel"] * 5)
        sending.advance()
        expect_all(link, sending, relay)


def test_a_driver_that_cannot_send_frames(lab: Lab) -> None:
    """A veth cannot while its other end has no GRO; the kernel reports it once a second."""
    with flowing(lab, rule(1, output(1))) as (sending, link, relay):
        with sending.paused():
            lab.receiver.offload("d0", gro=False)
            wait_for_relayers(relay, "driver")
        sending.advance()
        lab.receiver.offload("d0", gro=True)
        wait_for_relayers(relay, "kernel")
        sending.advance()
        expect_all(link, sending, relay)


def test_an_output_without_carrier(lab: Lab) -> None:
    """The engine counts what cannot leave; the kernel relays again once it can."""
    with flowing(lab, rule(1, output(1))) as (sending, link, relay):
        with sending.paused():
            lab.receiver.set_up("d0", up=False)
            wait_for_relayers(relay, "no_carrier")
        sending.advance()
        with sending.paused():
            lab.receiver.set_up("d0", up=True)
            wait_for_relayers(relay, "kernel")
        sending.advance()
        sending.stop()
        count = len(sending.sent)
        wait_until(lambda: relay.stats().rules[0].matched == count, WARM_S)
        stats = relay.stats()
        assert_balanced(stats)
        copies = stats.rules[0].outputs[0]
        lost = copies.dropped["no_carrier"]
        assert lost >= 500
        assert (copies.wanted, copies.sent) == (count, count - lost)
        link.wait_for(copies.sent)
        arrived = link.payloads(OUT_PORT)
        assert arrived == [each for each in sending.sent if each in set(arrived)]


def test_changes_of_other_rules_lose_nothing(lab: Lab, ingress: Ingress) -> None:
    """Rules come and go beside a stream in the kernel, also for its own interface."""
    others = [rule(number, output(number)) for number in range(2, 120)]
    with flowing(lab, rule(1, output(1)), *others, ingress=ingress) as (sending, link, relay):
        assert set(relayers(relay.stats())) == {"kernel"}
        mine = relay.rules[0]
        for start in range(2, 110, 27):
            with lab.relay:
                relay.replace_rules([mine, *others[start:]])
                for text in others[: min(3, start)]:
                    relay.add_rule(text)
                relay.disable_rule(relay.rules[1])
                relay.enable_rule(relay.rules[1])
            sending.advance(100)
            with lab.relay:
                relay.replace_rules([mine, *others])
        assert set(relayers(relay.stats())) == {"kernel"}
        expect_all(link, sending, relay)


def test_a_change_among_a_thousand_rules_loses_nothing(lab: Lab) -> None:
    """Of the stream of another one, and of the rules themselves."""
    count = 1000
    texts = [rule(number, output(number, version=6), version=6) for number in range(1, count + 1)]
    moved = texts[900].replace("%out0", "%out1")
    with flowing(lab, *texts, version=6) as (sending, link, relay):
        assert relayers(relay.stats()) == ["kernel"] * count
        mine, *others = relay.rules
        with lab.relay:
            relay.remove_rule(others[0])
            relay.add_rule(others[0])
        sending.advance(64)
        with lab.relay:
            relay.replace_rules([mine, *others[: count // 2], moved])
        assert relayers(relay.stats()) == ["kernel"] * (count // 2 + 2)
        expect_all(link, sending, relay)


def test_an_input_that_is_renamed_and_returns(lab: Lab) -> None:
    """The program is attached while a rule has the interface, and the counts continue."""
    with flowing(lab, rule(1, output(1))) as (sending, link, relay):
        with sending.paused():
            lab.relay.ip("link", "set", "in0", "name", "in9")
            wait_for_relayers(relay, "waiting")
            wait_until(lambda: "xdp" not in lab.relay.ip("link", "show", "in9"))
            lab.relay.ip("link", "set", "in9", "name", "in0")
            wait_for_relayers(relay, "kernel")
        sending.advance()
        expect_all(link, sending, relay)


def test_a_new_rule_takes_a_stream_from_the_engine_in_a_pause(lab: Lab) -> None:
    """A rule with one more output replaces one that only the engine can relay."""
    first = f"{flow(1).group}%in0:5001-5002 to {output(1)}"
    second = f"{flow(1).group}%in0:5001 to {output(1)} {output(2, 'out1')}"
    with (
        LinkReceiver(lab.receiver, "d0", [OUT_PORT]) as link,
        offloading(lab, first, offload="auto") as relay,
        BurstSender(lab.source, "s0") as sender,
        BurstFlow(sender, 1) as sending,
    ):
        assert relayers(relay.stats()) == ["pattern"]
        sending.advance()
        with lab.relay:
            relay.replace_rules([second])
        wait_for_relayers(relay, "kernel")
        sending.advance()
        sending.stop()
        link.wait_for(len(sending.sent))
        assert link.payloads(OUT_PORT) == sending.sent
