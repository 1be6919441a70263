"""Merging rules with ``reorder=``: what is ahead of a gap waits for the other feed."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import assert_balanced, dropped, settle
from .daemons import serving
from .feeds import RULE, Feeds, counted, merge_of, mold, number_of, received, rtp
from .lab import Lab
from .relays import Ingress, relaying

COUNT = 300
HELD = RULE.replace("merge=rtp", "merge=rtp,reorder=300ms")
LONGEST = RULE.replace("merge=rtp", "merge=rtp,reorder=500ms")
STORE_BYTES = 8 << 20
SLOW = ("tbf", "rate", "4mbit", "burst", "1600", "limit", "400000")
"""A packet of these feeds takes about a quarter of a millisecond."""


@pytest.fixture
def feeds(lab: Lab) -> Iterator[Feeds]:
    """The feeds of a test."""
    with Feeds(lab) as feeds:
        yield feeds


def output(stats: mcr.Stats) -> mcr.OutputStats:
    """The first output of the only rule."""
    return stats.rules[0].outputs[0]


def wait_for_held(read: Callable[[], mcr.Stats], count: int) -> mcr.Stats:
    """Wait until so many copies wait."""

    def look() -> mcr.Stats | None:
        stats = read()
        assert_balanced(stats)
        return stats if output(stats).pending == count else None

    stats = wait_until(look)
    assert stats is not None
    return stats


@pytest.mark.parametrize("slow", [0, 1])
@pytest.mark.parametrize(("mode", "build"), [("rtp", rtp), ("mold", mold), ("seq:4:32le", counted)])
def test_the_output_is_in_order_while_one_feed_is_behind(
    lab: Lab, feeds: Feeds, mode: str, build: Callable[[int], bytes], slow: int, ingress: Ingress
) -> None:
    """The fast feed loses each fifth; the slow one, behind a shaper, has all, byte for byte."""
    rule = HELD.replace("merge=rtp", f"merge={mode}")
    fast = 1 - slow
    with (
        lab.source.shaped(("s0", "s1")[slow], *SLOW),
        relaying(lab.relay, rule, ingress=ingress) as relay,
    ):
        feeds.senders[fast].send([build(0)])
        settle(relay, lambda now: sum(received(now)) == 1)
        for first in range(0, COUNT, 20):
            part = range(first, first + 20)
            feeds.senders[fast].send([build(n) for n in part if n and n % 5 != 3])
            feeds.senders[slow].send([build(n) for n in part])
        got = feeds.receiver.wait_for(COUNT)
        stats = settle(relay, lambda now: sum(received(now)) == COUNT + COUNT * 4 // 5)
    assert got == [build(n) for n in range(COUNT)]
    assert output(stats).sent == COUNT
    assert merge_of(stats).lost == 0


def test_what_is_ahead_of_a_gap_is_pending_and_leaves_at_its_time(
    lab: Lab, feeds: Feeds, ingress: Ingress
) -> None:
    """What fills the gap after that is late."""
    with relaying(lab.relay, HELD, ingress=ingress) as relay:
        feeds.send(0, [0, 2, 3, 5])
        stats = wait_for_held(relay.stats, 3)
        assert (output(stats).wanted, output(stats).sent) == (4, 1)
        assert numbers(feeds, 4) == [0, 2, 3, 5]
        feeds.send(1, [1, 4, 6])
        # The counters of inputs and of interfaces are published one after the other.
        stats = settle(
            relay, lambda now: received(now) == [4, 3] and dropped(now, "big", "late") == 2
        )
        assert numbers(feeds, 5) == [0, 2, 3, 5, 6]
    assert output(stats).sent == stats.rules[0].matched == 5


def test_parts_of_super_frames_fill_gaps(lab: Lab, feeds: Feeds) -> None:
    """Each third datagram of one is new, between others that waited."""
    with relaying(lab.relay, LONGEST, ingress="packet") as relay:
        feeds.send(1, [0])
        settle(relay, lambda now: received(now) == [0, 1])
        feeds.send(1, [n for n in range(1, 100) if n % 3])
        feeds.senders[0].send_super([rtp(n) for n in range(100)])
        stats = settle(relay, lambda now: received(now) == [100, 67])
        assert numbers(feeds, 100) == [*range(100)]
    assert output(stats).sent == 100


def test_a_changed_rule_sends_what_it_holds(lab: Lab, feeds: Feeds) -> None:
    """With its outputs of before; and so does a relay that stops."""
    with relaying(lab.relay, LONGEST, ingress="packet") as relay:
        feeds.send(0, [0, 2, 3])
        wait_for_held(relay.stats, 2)
        relay.edit_rule("pair", add_outputs=["192.0.2.7%out1:6001"])
        stats = relay.stats()
        assert_balanced(stats)
        assert [each.wanted for each in stats.rules[0].outputs] == [3, 0]
        assert output(stats).pending == 0
        feeds.send(0, [5])
        wait_for_held(relay.stats, 1)
        relay.add_rule("239.1.90.9%in0:5001 to 239.2.90.9%out0:6001")
        assert output(relay.stats()).pending == 1
    assert numbers(feeds, 4) == [0, 2, 3, 5]


def test_a_full_store_gives_gaps_up(lab: Lab, feeds: Feeds) -> None:
    """More than 8 MiB never wait: the oldest gap is given up, and nothing behind it is lost."""
    big = [rtp(n) + bytes(1300) for n in range(7000)]
    with relaying(lab.relay, LONGEST, ingress="packet") as relay:
        feeds.senders[0].send([big[0]])
        for first in range(2, 7000, 500):
            feeds.senders[0].send(big[first : first + 500])
            count = min(first + 500, 7000) - 1
            wait_until(lambda count=count: received(relay.stats())[0] == count)  # type: ignore[misc]
            assert output(relay.stats()).pending <= STORE_BYTES // len(big[0])
            feeds.receiver.drain()
        got = feeds.receiver.wait_for(6999)
        assert got == [big[0], *big[2:]]
        stats = settle(relay, lambda now: received(now) == [6999, 0])
    assert output(stats).sent == 6999


def test_a_worker_that_dies_has_lost_what_it_held(lab: Lab, feeds: Feeds) -> None:
    """It is counted."""
    with serving(lab.relay) as daemon, daemon.client() as client:
        client.add_rule(LONGEST)
        (worker,) = daemon.workers
        feeds.send(0, [0, 2, 3])
        wait_for_held(client.stats, 2)
        os.kill(worker, signal.SIGKILL)
        daemon.wait_for("relays again")
        stats = client.stats()
        assert_balanced(stats)
        assert (output(stats).sent, output(stats).dropped["abandoned"]) == (1, 2)


def numbers(feeds: Feeds, count: int) -> Sequence[int]:
    """The numbers of what has arrived, of which there are so many."""
    return [number_of(payload) for payload in feeds.receiver.wait_for(count)]
