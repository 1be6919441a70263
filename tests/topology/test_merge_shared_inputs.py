"""Two merging rules that have an input in common: what is counted where, if they do not agree."""

from contextlib import ExitStack

import pytest

import mcr

from .checks import dropped, settle
from .feeds import PORT, A, B, number_of, rtp
from .lab import Lab
from .relays import Ingress, relaying

C = "239.1.90.3"
SHARED = f"{A[0]}%{A[2]}:{PORT}"
FIRST = f"{SHARED} + {B[0]}%{B[2]}:{PORT},name=one,merge=rtp,late=drop to 239.2.90.1%out0:6001"
"""Its other input is an IPv6 group."""


def second(late: str) -> str:
    """A rule whose other input is on the interface of the shared one."""
    return f"{SHARED} + {C}%{A[2]}:{PORT},name=two,merge=rtp,late={late} to 239.2.90.2%out0:6001"


def legs(stats: mcr.Stats, name: str) -> tuple[mcr.LegStats, ...]:
    """The inputs of a rule."""
    merge = next(rule for rule in stats.rules if rule.name == name).merge
    assert merge is not None
    return merge.legs


def interface(stats: mcr.Stats, name: str) -> mcr.InterfaceStats:
    """The counters of an interface."""
    return next(each for each in stats.interfaces if each.name == name)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("late", ["send", "drop"])
def test_a_datagram_has_one_fate_at_the_input(
    lab: Lab, ingress: Ingress, late: str, swapped: bool
) -> None:
    """Each rule counts its own places; what none sends has the reason of a loss, if one lost it.

    Of the shared input 1, 2, 3 and 6 are duplicates for both rules, 4 is late for the first and a
    duplicate for the second, 5 is late for both, 7 first and a duplicate, 0 and 8 first for both.
    """
    rules = [FIRST, second(late)]
    with ExitStack() as stack:
        relay = stack.enter_context(
            relaying(lab.relay, *(rules[::-1] if swapped else rules), ingress=ingress)
        )
        receivers = [stack.enter_context(lab.receive(f"239.2.90.{at}", 6001)) for at in (1, 2)]
        senders = [
            stack.enter_context(lab.sender(group, PORT, interface=interface))
            for group, interface in ((A[0], "s0"), (B[0], "s1"), (C, "s0"))
        ]

        def send(sender: int, numbers: list[int]) -> None:
            senders[sender].send([rtp(n) for n in numbers])

        send(0, [0])
        settle(relay, lambda now: legs(now, "one")[0].received == 1)
        send(1, [1, 2, 3, 6])
        send(2, [1, 2, 3, 4, 6, 7])
        settle(
            relay,
            lambda now: (legs(now, "one")[1].received, legs(now, "two")[1].received) == (4, 6),
        )
        send(0, [1, 2, 3, 4, 5, 6, 7, 8])
        # The counters of inputs and of interfaces are published one after the other.
        stats = settle(
            relay,
            lambda now: (legs(now, "two")[0].received, interface(now, "in0").received) == (9, 15),
        )
        counts = (7, 9 if late == "send" else 8)
        got = [
            [number_of(each) for each in receiver.wait_for(count)]
            for receiver, count in zip(receivers, counts, strict=True)
        ]
    one, two = legs(stats, "one"), legs(stats, "two")
    assert (one[0].first, one[0].duplicate, one[0].late) == (3, 4, 2)
    assert (two[0].first, two[0].duplicate, two[0].late) == (2, 6, 1)
    assert (one[1].first, two[1].first) == (4, 6)
    late_sent = late == "send"
    assert got[0] == [0, 1, 2, 3, 6, 7, 8]
    assert sorted(got[1]) == [n for n in range(9) if n != 5 or late_sent]
    for rule in stats.rules:
        expected = got[0] if rule.name == "one" else got[1]
        assert rule.matched == rule.outputs[0].sent == len(expected)
    # 1, 2, 3, 6 are sent by none; 4 is late for one of the rules, and 5 for all that drop it.
    assert dropped(stats, "in0", "duplicate") == 4
    assert dropped(stats, "in0", "late") == (1 if late_sent else 2)
    assert interface(stats, "in0").matched == 1 + 6 + (3 if late_sent else 2)
