"""Rules with ``merge=failover``: one feed is sent, and the other one while that is silent."""

from collections.abc import Iterator

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import dropped, settle
from .feeds import RULE, Feeds, merge_of, number_of, received, rtp, statuses
from .lab import Lab
from .relays import Ingress, relaying

FAILOVER = RULE.replace("merge=rtp", "merge=failover,after=200ms")
TICKS = 20
"""The packets of 200 ms, one every 10 ms."""
SLACK = 10
"""As many more that may pass while the machine is busy."""


@pytest.fixture
def feeds(lab: Lab) -> Iterator[Feeds]:
    """The feeds of a test."""
    with Feeds(lab) as feeds:
        yield feeds


def numbers_of(feeds: Feeds, *, to: int) -> list[int]:
    """The numbers of what has arrived, of which the last one is known."""
    return [number_of(payload) for payload in feeds.receiver.wait_for_payload(rtp(to))]


@pytest.mark.parametrize("ingress", ["packet", "udp"])
def test_the_standby_is_sent_while_the_first_feed_is_silent(
    lab: Lab, feeds: Feeds, ingress: Ingress
) -> None:
    """At the switch a gap of at most the time of the rule, and none when the first one returns."""
    with relaying(lab.relay, FAILOVER, ingress=ingress) as relay:
        feeds.tick(0, 1, count=50)
        tick_until(feeds, relay, ["active", "standby"], 0, 1)
        cut = feeds.next
        feeds.tick(1, count=60)
        stats = tick_until(feeds, relay, ["down", "active"], 1)
        assert (merge_of(stats).active, merge_of(stats).switches) == (2, 1)
        feeds.tick(0, 1, count=200)
        stats = tick_until(feeds, relay, ["active", "standby"], 0, 1)
        assert (merge_of(stats).active, merge_of(stats).switches) == (1, 2)
        stats = settle(relay, lambda now: received(now) == feeds.ticked)
        got = numbers_of(feeds, to=feeds.next - 1)
    missing = sorted({*range(feeds.next)} - {*got})
    assert got == sorted(set(got))
    assert missing == [*range(cut, cut + len(missing))]
    assert len(missing) <= TICKS + SLACK
    sent, dropped_count = stats.rules[0].outputs[0].sent, sum(feeds.ticked) - len(got)
    assert sent == len(got) == stats.rules[0].matched == sum(leg.first for leg in legs(stats))
    assert sum(leg.duplicate for leg in legs(stats)) == dropped_count
    assert sum(dropped(stats, name, "duplicate") for name in ("in0", "big")) == dropped_count


def tick_until(feeds: Feeds, relay: mcr.Relay, expected: list[str], *on: int) -> mcr.Stats:
    """Send on these feeds until the inputs have these statuses."""

    def look() -> mcr.Stats | None:
        feeds.tick(*on, count=2)
        stats = relay.stats()
        return stats if statuses(stats) == expected else None

    stats = wait_until(look)
    assert stats is not None
    return stats


@pytest.mark.parametrize("ingress", ["packet", "udp"])
def test_a_flapping_feed_does_not_return(lab: Lab, feeds: Feeds, ingress: Ingress) -> None:
    """Nothing of the standby is lost meanwhile; and after a silence of both, nothing of either."""
    with relaying(lab.relay, FAILOVER, ingress=ingress) as relay:
        feeds.tick(0, 1, count=20)
        feeds.tick(1, count=60)
        begin = feeds.next
        for _ in range(4):
            feeds.tick(0, 1, count=30)
            feeds.tick(1, count=30)
        stats = settle(relay, lambda now: received(now) == [140, 320])
        assert merge_of(stats).switches == 1
        settle(relay, lambda now: statuses(now) == ["down", "down"])
        last = feeds.tick(0, count=40)
        got = numbers_of(feeds, to=last[-1])
        stats = settle(relay, lambda now: received(now) == [180, 320])
    assert got[got.index(begin) :] == [*range(begin, last[-1] + 1)]
    assert (merge_of(stats).active, merge_of(stats).switches) == (1, 2)


def legs(stats: mcr.Stats) -> tuple[mcr.LegStats, ...]:
    """The inputs of the only rule."""
    return merge_of(stats).legs
