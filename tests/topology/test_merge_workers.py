"""Merging rules with several workers: all inputs of a rule meet in one of them."""

import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

import mcr

from .checks import assert_balanced, settle
from .daemons import serving
from .egress import Kind
from .feeds import PORT, RULE, A, B, Feeds, merge_of, number_of, received
from .lab import Lab
from .relays import Ingress, relaying

SENDERS = 6
COUNT = 200
BEGIN = 8
"""Numbers by which a sender beside others has been recognised."""
OTHER = f"{B[0]}%{B[2]}:{PORT} + 239.1.90.5%in0:{PORT},name=other,merge=rtp to 239.2.90.5%out0:6001"
"""A rule with an input of the first one, which is not its own first."""


@contextmanager
def several(lab: Lab, ingress: Ingress, kind: Kind) -> Iterator[mcr.Relay | mcr.Client]:
    """A relay of this process with two workers, or a client of a daemon with two."""
    if kind == "library":
        with relaying(lab.relay, ingress=ingress, workers=2) as relay:
            yield relay
        return
    with (
        serving(lab.relay, "--ingress", ingress, "--workers", "2") as daemon,
        daemon.client() as client,
    ):
        yield client


def add(lab: Lab, relay: mcr.Relay | mcr.Client, *rules: str) -> None:
    """Add rules; a relay of this process looks for their interfaces in its own namespace."""
    with lab.relay:
        for rule in rules:
            relay.add_rule(rule)


def packet(ssrc: int, number: int) -> bytes:
    """An RTP packet of one of several senders."""
    return struct.pack(">BBHII", 0x80, 96, number % 65_536, number, ssrc) + bytes(60)


def test_all_inputs_of_a_rule_meet_in_one_worker(lab: Lab, kind: Kind, ingress: Ingress) -> None:
    """Each feed is several flows, which two workers would share, and loses a seventh."""
    with several(lab, ingress, kind) as relay, ExitStack() as stack:
        add(lab, relay, RULE)
        receiver = stack.enter_context(lab.receive("239.2.90.1", 6001))
        senders = [
            [stack.enter_context(lab.sender(group, PORT, interface=i)) for group, i, _ in (A, B)]
            for _ in range(SENDERS)
        ]
        sent = [0, 0]
        for first in range(0, COUNT, 20):
            for ssrc, legs in enumerate(senders):
                for leg, sender in enumerate(legs):
                    part = [n for n in range(first, first + 20) if n < BEGIN or n % 7 != 2 + leg]
                    sender.send([packet(ssrc, n) for n in part])
                    sent[leg] += len(part)
        stats = settle(relay, lambda now: received(now) == sent)
        got = receiver.wait_for(stats.rules[0].outputs[0].sent)
        assert_balanced(stats)
    assert len(set(got)) == len(got)
    expected = {packet(ssrc, n) for ssrc in range(SENDERS) for n in range(BEGIN, COUNT)}
    assert expected <= set(got)
    assert merge_of(stats).lost == 0
    assert merge_of(stats).restarts == SENDERS - 1


def test_an_input_cannot_meet_others_in_two_workers(lab: Lab, kind: Kind, ingress: Ingress) -> None:
    """With `udp` an ordinary rule cannot have it either; with `packet` it gets what arrives."""
    plain = f"{B[0]}%{B[2]}:{PORT},name=plain to 239.2.90.7%out1:6007"
    same = RULE.replace("name=pair", "name=same").replace("239.2.90.1", "239.2.90.3")
    with several(lab, ingress, kind) as relay, Feeds(lab) as feeds:
        add(lab, relay, RULE, same)
        with pytest.raises(mcr.McrError, match=r"with several workers no other rule"):
            add(lab, relay, OTHER)
        if ingress == "udp":
            with pytest.raises(mcr.McrError, match=r"with several workers no other rule"):
                add(lab, relay, plain)
        else:
            add(lab, relay, plain)
        with lab.receive("239.2.90.3", 6001) as second, ExitStack() as stack:
            third = stack.enter_context(lab.receive("239.2.90.7", 6007, "d1"))
            for leg in (0, 1):
                feeds.send(leg, range(50))
            for receiver in (feeds.receiver, second):
                assert [*map(number_of, receiver.wait_for(50))] == [*range(50)]
            if ingress == "packet":
                assert [*map(number_of, third.wait_for(50))] == [*range(50)]
        assert_balanced(relay.stats())
