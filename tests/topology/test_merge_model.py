"""Merging against a plain Python merge: random loss, repetition, order and skew of two feeds."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import mcr

from .checks import dropped, settle
from .feeds import RULE, Feeds, counted, merge_of, mold, received, rtp
from .lab import Lab
from .relays import Ingress, relaying

MODES = {"rtp": rtp, "mold": mold, "seq:4:32le": counted}
MOST = 60  # numbers of a stream; far fewer than a merger remembers
FARTHEST = 6  # places by which the network moves a datagram
PATIENT = "reorder=300ms"


@dataclass(frozen=True)
class Part:
    """What one feed delivers without a pause."""

    leg: int
    numbers: tuple[int, ...]


@st.composite
def feeds_of_one_stream(draw: st.DrawFn) -> list[Part]:
    """The parts of both feeds, in the order in which they are sent; 0 and the last one arrive."""
    count = draw(st.integers(2, MOST))
    parts = []
    for leg in (0, 1):
        inner = range(1, count - 1)
        lost = draw(st.frozensets(st.sampled_from(inner))) if inner else frozenset()
        repeated = draw(st.frozensets(st.integers(1, count - 1), max_size=5))
        there = [n for n in range(1, count) if n not in lost for _ in range(1 + (n in repeated))]
        moved = draw(st.lists(st.integers(0, FARTHEST), min_size=len(there), max_size=len(there)))
        order = sorted(range(len(there)), key=lambda at: (at + moved[at], at))
        numbers = [there[at] for at in order]
        cuts = sorted(draw(st.frozensets(st.integers(1, max(1, len(numbers) - 1)), max_size=4)))
        edges = zip([0, *cuts], [*cuts, len(numbers)], strict=True)
        parts.append([Part(leg, tuple(numbers[begin:end])) for begin, end in edges])
    turns = draw(st.permutations([0] * len(parts[0]) + [1] * len(parts[1])))
    return [parts[leg].pop(0) for leg in turns]


def sent(parts: list[Part]) -> list[int]:
    """The numbers of all datagrams of both feeds."""
    return [0, *(number for part in parts for number in part.numbers)]


def merged(parts: list[Part]) -> list[int]:
    """What a merge has in the end: each number that some feed had, once."""
    return sorted(set(sent(parts)))


def send(feeds: Feeds, relay: mcr.Relay, build: Callable[[int], bytes], parts: list[Part]) -> None:
    """Send the stream, the first number before all others, and wait until all is received."""
    feeds.senders[0].send([build(0)])
    settle(relay, lambda now: sum(received(now)) == 1)
    for part in parts:
        feeds.senders[part.leg].send([build(number) for number in part.numbers])
    total = len(sent(parts))
    settle(relay, lambda now: sum(received(now)) == total)


random_feeds = settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # Shrinking would wait for losses.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("mode", MODES)
@given(parts=feeds_of_one_stream())
@random_feeds
def test_with_patience_the_output_is_the_merge_in_order(
    lab: Lab, ingress: Ingress, mode: str, parts: list[Part]
) -> None:
    """Byte for byte, whatever each feed has lost, repeated or delayed."""
    rule, build = RULE.replace("merge=rtp", f"merge={mode},{PATIENT}"), MODES[mode]
    expected = merged(parts)
    with Feeds(lab) as feeds, relaying(lab.relay, rule, ingress=ingress) as relay:
        send(feeds, relay, build, parts)
        feeds.receiver.expect([build(number) for number in expected])
        stats = settle(relay, lambda now: now.rules[0].outputs[0].sent == len(expected))
    assert merge_of(stats).lost == expected[-1] + 1 - len(expected)


@pytest.mark.parametrize("mode", MODES)
@given(parts=feeds_of_one_stream())
@random_feeds
def test_without_patience_the_output_is_the_merge_in_any_order(
    lab: Lab, ingress: Ingress, mode: str, parts: list[Part]
) -> None:
    """Each number once, the first arrival at once; all other datagrams are duplicates."""
    rule, build = RULE.replace("merge=rtp", f"merge={mode}"), MODES[mode]
    expected = merged(parts)
    with Feeds(lab) as feeds, relaying(lab.relay, rule, ingress=ingress) as relay:
        send(feeds, relay, build, parts)
        got = feeds.receiver.wait_for(len(expected))
        stats = settle(relay, lambda now: now.rules[0].outputs[0].sent == len(expected))
    assert Counter(got) == Counter(build(number) for number in expected)
    duplicates = sum(dropped(stats, interface, "duplicate") for interface in ("in0", "big"))
    assert duplicates == len(sent(parts)) - len(expected)
