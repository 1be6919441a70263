"""Merging rules: two feeds of the same datagrams become one, against the ledger of the sender."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

import mcr

from .checks import assert_balanced, dropped, settle
from .daemons import serving
from .feeds import (
    OUT,
    PORT,
    RULE,
    A,
    B,
    Feeds,
    counted,
    merge_of,
    mold,
    number_of,
    received,
    rtp,
)
from .lab import Lab
from .relays import Ingress, relaying

COUNT = 2000


@pytest.fixture
def feeds(lab: Lab) -> Iterator[Feeds]:
    """The feeds of a test."""
    with Feeds(lab) as feeds:
        yield feeds


def wait_for_all(relay: mcr.Relay, ledgers: Sequence[Sequence[int]], end: int) -> None:
    """Wait until each feed has received what its ledger has below this number.

    Two thousand at once fill a queue while a busy machine lets the relay wait.
    """
    sent = [sum(number < end for number in ledger) for ledger in ledgers]
    settle(relay, lambda now: received(now) == sent)


@pytest.mark.parametrize(
    ("ingress", "offload"), [("packet", True), ("packet", False), ("udp", True)]
)
def test_only_what_no_feed_has_is_missing(
    lab: Lab, feeds: Feeds, ingress: Ingress, offload: bool
) -> None:
    """Both feeds lose 5 % of their datagrams, each its own."""
    lab.set_offload(on=offload)
    draw = random.Random(5)
    ledgers = [[n for n in range(COUNT) if draw.random() >= 0.05] for _ in range(2)]
    with relaying(lab.relay, RULE, ingress=ingress) as relay:
        for first in range(0, COUNT, 50):  # one feed is behind the other by up to 50
            for leg in (0, 1):
                feeds.send(leg, [n for n in ledgers[leg] if first <= n < first + 50])
            wait_for_all(relay, ledgers, first + 50)
        stats = relay.stats()
        union, common = set(ledgers[0]) | set(ledgers[1]), set(ledgers[0]) & set(ledgers[1])
        got = [number_of(payload) for payload in feeds.receiver.wait_for(len(union))]
    assert sorted(got) == sorted(union)
    merge, (rule,) = merge_of(stats), stats.rules
    assert (rule.matched, rule.outputs[0].sent) == (len(union), len(union))
    assert sum(leg.first + leg.late for leg in merge.legs) == len(union)
    assert sum(leg.duplicate for leg in merge.legs) == len(common)
    assert sum(dropped(stats, name, "duplicate") for name in ("in0", "big")) == len(common)
    expected = [each[-1] - each[0] + 1 - len(each) for each in ledgers]
    assert [leg.missing for leg in merge.legs] == expected
    assert merge.lost == max(union) - min(union) + 1 - len(union)
    assert all(leg.state_code == "flowing" for leg in merge.legs)


def test_a_feed_may_be_cut_and_the_sender_restart(lab: Lab, feeds: Feeds) -> None:
    """The rule is edited meanwhile, and super-frames are sent in part."""
    with relaying(lab.relay, RULE, ingress="packet") as relay:
        both = range(100)
        for leg in (0, 1):
            feeds.send(leg, both)
        settle(relay, lambda now: received(now) == [100, 100])
        lab.relay.set_up("in0", up=False)
        feeds.send(1, range(100, 200))
        settle(relay, lambda now: received(now) == [100, 200])
        relay.edit_rule("pair", add_outputs=["192.0.2.7%out1:6001"])
        lab.relay.set_up("in0", up=True)
        settle(relay, lambda now: merge_of(now).legs[0].state_code != "waiting")
        # Of the first feed's super-frames, each third datagram is new.
        feeds.send(1, [n for n in range(200, 300) if n % 3])
        settle(relay, lambda now: received(now)[1] == 267)
        feeds.senders[0].send_super([rtp(n) for n in range(200, 300)])
        settle(relay, lambda now: merge_of(now).lost == 0 and received(now)[0] == 200)
        got = feeds.receiver.wait_for(300)
        assert sorted(map(number_of, got)) == [*range(300)]
        time.sleep(0.2)  # only after a pause are four numbers enough
        for leg in (0, 1):
            feeds.send(leg, range(300, 400), start=30_000)
        stats = settle(relay, lambda now: received(now) == [300, 367])
        got = feeds.receiver.wait_for(397)
    numbers = [number_of(payload) for payload in got]
    assert merge_of(stats).restarts == 1
    assert len(set(numbers)) == len(numbers) >= 397


def unnumbered(number: int) -> bytes:
    """A payload that is unlike any other."""
    return random.Random(number).randbytes(100)


@pytest.mark.parametrize("ingress", ["packet", "udp"])
@pytest.mark.parametrize(
    ("mode", "build"), [("mold", mold), ("seq:4:32le", counted), ("hash", unnumbered)]
)
def test_each_kind_of_number(
    lab: Lab, feeds: Feeds, mode: str, build: Callable[[int], bytes], ingress: Ingress
) -> None:
    """Each feed loses a tenth; what either has is sent once."""
    draw = random.Random(7)
    ledgers = [[n for n in range(COUNT) if n == 0 or draw.random() >= 0.1] for _ in range(2)]
    rule = RULE.replace("merge=rtp", f"merge={mode}")
    with relaying(lab.relay, rule, ingress=ingress) as relay:
        for first in range(0, COUNT, 50):
            for leg in (0, 1):
                part = [n for n in ledgers[leg] if first <= n < first + 50]
                feeds.senders[leg].send([build(n) for n in part])
            wait_for_all(relay, ledgers, first + 50)
        union = {*ledgers[0], *ledgers[1]}
        got = feeds.receiver.wait_for(len(union))
        stats = relay.stats()
    assert sorted(got) == sorted(build(n) for n in union)
    assert stats.rules[0].outputs[0].sent == len(union)
    assert_balanced(stats)


def test_late_datagrams_can_be_dropped(lab: Lab, feeds: Feeds) -> None:
    """Then the output is in order."""
    rule = RULE.replace("merge=rtp", "merge=rtp,late=drop")
    with relaying(lab.relay, rule, ingress="packet") as relay:
        feeds.send(0, [n for n in range(100) if n % 10 != 3])
        settle(relay, lambda now: received(now)[0] == 90)
        feeds.send(1, range(110))
        stats = settle(relay, lambda now: received(now)[1] == 110)
        got = feeds.receiver.wait_for(100)
    assert [*map(number_of, got)] == [n for n in range(110) if n >= 100 or n % 10 != 3]
    assert merge_of(stats).legs[1].late == 10
    assert merge_of(stats).lost == 0  # the other feed had them
    assert_balanced(stats)


def test_a_worker_of_a_daemon_may_die(lab: Lab, feeds: Feeds) -> None:
    """Its successor merges on, and sends nothing that was sent before."""
    with serving(lab.relay) as daemon, daemon.client() as client:
        client.add_rule(RULE)
        feeds.send(0, range(100))
        feeds.send(1, range(90))
        assert len(feeds.receiver.wait_for(100)) == 100
        os.kill(daemon.workers[0], signal.SIGKILL)
        daemon.wait_for("relays again")
        send_both(feeds, range(100, 200), behind=10)
        got = feeds.receiver.wait_for(200)
        assert [*map(number_of, got)] == [*range(200)]
        stats = client.stats()
        assert stats.rules[0].outputs[0].sent == 200
        assert_balanced(stats)


def send_both(feeds: Feeds, numbers: Sequence[int], *, behind: int) -> None:
    """Send numbers on the first feed, and each so many numbers later on the other one."""
    for number in numbers:
        feeds.send(0, [number])
        feeds.send(1, [number - behind])


def test_a_third_input_may_be_silent(lab: Lab, feeds: Feeds) -> None:
    """Two of the three are the same group on different interfaces."""
    rule = f"{A[0]}%{A[2]}:{PORT} + {B[0]}%{B[2]}:{PORT} + {B[0]}%{A[2]}:{PORT},merge=rtp to {OUT}"
    with relaying(lab.relay, rule, ingress="packet") as relay:
        feeds.send(1, range(100))
        settle(relay, lambda now: received(now) == [0, 100, 0])
        feeds.send(0, range(100))
        stats = settle(relay, lambda now: received(now) == [100, 100, 0])
        assert len(feeds.receiver.wait_for(100)) == 100
    assert [leg.first for leg in merge_of(stats).legs] == [0, 100, 0]


def test_feeds_of_super_frames_that_lose_most_of_them(lab: Lab, ingress: Ingress) -> None:
    """As when both are overloaded: what either has leaves once, and nothing is disbelieved."""
    lab.set_offload(on=True)
    draw, other, batch = random.Random(3), "239.1.90.2", 40
    rule = f"{A[0]}%{A[2]}:{PORT} + {other}%{A[2]}:{PORT},merge=rtp to {OUT}"
    sent: list[set[int]] = [set(), set()]
    with (
        relaying(lab.relay, rule, ingress=ingress) as relay,
        lab.receive("239.2.90.1", 6001) as receiver,
        lab.sender(A[0], PORT) as one,
        lab.sender(other, PORT) as two,
    ):
        for first in range(0, 20_000, batch):
            for leg, sender in enumerate((one, two)):
                if first == 0 or draw.random() < 0.3:
                    numbers = range(first, first + batch)
                    sender.send_super([rtp(n) for n in numbers], batch=batch)
                    sent[leg] |= {*numbers}
            if first == 0:
                settle(relay, lambda now: received(now) == [batch, batch])
        stats = settle(relay, lambda now: received(now) == [len(each) for each in sent])
        got = [number_of(payload) for payload in receiver.wait_for(len(sent[0] | sent[1]))]
    assert sorted(got) == sorted(sent[0] | sent[1])
    assert dropped(stats, "in0", "out_of_sequence") == merge_of(stats).restarts == 0


@pytest.mark.parametrize("rogue", ["frozen", "replaying", "random"])
def test_a_rogue_feed_neither_stops_nor_floods_the_output(
    lab: Lab, ingress: Ingress, rogue: str
) -> None:
    """It begins as the other feed, and then repeats a number, or old ones, or invents some.

    Neither runs ahead of the other while a busy machine lets the relay wait: that is what the start
    of another sender looks like.
    """
    draw, other = random.Random(9), "239.1.90.2"
    invents: dict[str, Callable[[int], int]] = {
        "frozen": lambda _: 99,
        "replaying": lambda n: n % 100,
        "random": lambda _: draw.randrange(1 << 16),
    }
    invent = invents[rogue]
    rule = f"{A[0]}%{A[2]}:{PORT} + {other}%{A[2]}:{PORT},merge=rtp to {OUT}"
    with (
        relaying(lab.relay, rule, ingress=ingress) as relay,
        lab.receive("239.2.90.1", 6001) as receiver,
        lab.sender(A[0], PORT) as good,
        lab.sender(other, PORT) as bad,
    ):
        for sender in (good, bad):
            sender.send([rtp(n) for n in range(100)])
        settle(relay, lambda now: received(now) == [100, 100])
        for first in range(100, COUNT, 5):
            part = range(first, first + 5)
            good.send([rtp(n) for n in part])
            bad.send([rtp(invent(n)) + b"rogue" for n in part])
            if part.stop % 20 == 0:
                wait_for_all(relay, [range(COUNT)] * 2, part.stop)
        stats = relay.stats()
        got = receiver.wait_for(stats.rules[0].outputs[0].sent)
    numbers = [number_of(payload) for payload in got if not payload.endswith(b"rogue")]
    assert len({*numbers}) == len(numbers) >= COUNT * 0.99
    assert len(got) - len(numbers) <= COUNT * 0.01
