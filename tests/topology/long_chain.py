"""`make long-chain`: millions of datagrams of 1400 bytes through three relays in a row.

First below the capacity of the chain: none may be lost. Then at twice its capacity, or as fast as
they can be sent, each a frame of its own: every one that is missing is in a counter of the hop that
has dropped it.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.support.deadline import wait_until

import mcr

from .bulk import Bulk, BulkFlow, flow_between
from .checks import settle
from .namespaces import Namespace, Net, remove_leftovers
from .relays import relaying
from .rights import missing
from .shapes import CHAIN, Built
from .traffic import Receiver, Sender

SIZE = 1400
STEADY_PPS = 60_000
FLOOD_PPS = 1_000_000  # more than any sender reaches
_LIMIT_S = 3600.0
_HOPS = tuple(CHAIN.rules)


@dataclass(frozen=True, slots=True)
class Hop:
    """What one relay counted."""

    received: int
    lost_before: int
    """What the kernel could not keep for it: datagrams, if each was a frame of its own."""
    discarded: int
    """Copies that it could not send."""
    sent: int

    @classmethod
    def of(cls, stats: mcr.Stats) -> "Hop":
        """Read the counters of a relay with one rule and one output."""
        (interface,), (rule,) = stats.interfaces, stats.rules
        (output,) = rule.outputs
        dropped = sum(output.dropped.values())
        return cls(interface.received, interface.kernel_dropped_frames, dropped, output.sent)


@dataclass(frozen=True, slots=True)
class Passage:
    """A flow through the chain, hop by hop."""

    bulk: Bulk
    hops: list[Hop]

    def assert_whole(self) -> None:
        """Nothing was lost anywhere."""
        self.bulk.assert_whole()
        sent = self.bulk.sent
        assert all(hop == Hop(sent, 0, 0, sent) for hop in self.hops), self.hops

    def assert_accounted(self) -> None:
        """What one hop has sent the next has received or lost, and in order."""
        assert self.bulk.late == 0, self.bulk
        handed = [self.bulk.sent, *(hop.sent for hop in self.hops)]
        for before, hop in zip(handed, self.hops, strict=False):
            assert before == hop.received + hop.lost_before, (before, hop)
            assert hop.received == hop.discarded + hop.sent, hop
        assert handed[-1] == self.bulk.received + self.bulk.own_loss, (handed, self.bulk)

    def __str__(self) -> str:
        """One line for each place at which datagrams may be missing."""
        lines = [f"sent {self.bulk.sent:,} at {self.bulk.rate_pps:,.0f}/s"]
        for name, hop in zip(_HOPS, self.hops, strict=True):
            lines.append(
                f"{name}: received {hop.received:,}, lost before it {hop.lost_before:,},"
                f" discarded {hop.discarded:,}, sent {hop.sent:,}"
            )
        lines.append(f"arrived {self.bulk.received:,}, lost there {self.bulk.own_loss:,}")
        return "\n  ".join(lines)


class Chain:
    """Three relays in a row, each in a namespace of its own."""

    def __init__(self, hosts: dict[str, Namespace]) -> None:
        """Take the hosts of the shape."""
        self._hosts = hosts

    def set_merging(self, *, on: bool) -> None:
        """Super-frames on every link, or every datagram a frame."""
        names = ("src", *_HOPS, "dst")
        for near, far in pairwise(names):
            Net.set_gro(self._hosts[near], far, self._hosts[far], near, on=on)
            self._hosts[near].offload(far, gso=on, tx_udp_segmentation=on)

    def run(self, count: int, rate_pps: int) -> Passage:
        """Send at least so many datagrams at this rate."""
        with self._relays() as relays, self._flow(rate_pps) as flow:

            def seen(stats: mcr.Stats) -> int:
                (interface,) = stats.interfaces
                return interface.received + interface.kernel_dropped_frames

            wait_until(lambda: seen(relays[0].stats()) >= count, _LIMIT_S)
            bulk = flow.end()
            hops = [Hop.of(settle(relay, lambda _: True)) for relay in relays]
        return Passage(bulk, hops)

    @contextlib.contextmanager
    def _relays(self) -> Iterator[list[mcr.Relay]]:
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(relaying(self._hosts[host], *rules, ingress="packet"))
                for host, rules in CHAIN.rules.items()
            ]

    @contextlib.contextmanager
    def _flow(self, rate_pps: int) -> Iterator[BulkFlow]:
        (stream,), (sink,) = CHAIN.streams, CHAIN.sinks
        source, target = self._hosts[stream.host], self._hosts[sink.host]
        with (
            Sender(source, stream.to, stream.group, stream.port) as sender,
            Receiver(target, sink.by, sink.address, sink.port) as receiver,
            flow_between(sender, receiver, rate_pps=rate_pps, size=SIZE) as flow,
        ):
            yield flow


def run(steady: int, overload: int, steady_pps: int = STEADY_PPS) -> tuple[Passage, Passage]:
    """Send so many below the capacity, and then so many above it; check both."""
    with Net() as net:
        chain = Chain(Built(net, CHAIN).hosts)
        chain.set_merging(on=True)
        below = chain.run(steady, steady_pps)
        below.assert_whole()
        chain.set_merging(on=False)
        flood = chain.run(overload // 10, FLOOD_PPS)
        capacity_pps = flood.bulk.rate_pps * flood.bulk.received / flood.bulk.sent
        above = chain.run(overload, round(2 * capacity_pps))
        above.assert_accounted()
        return below, above


def main() -> int:
    """Print what became of both."""
    parser = argparse.ArgumentParser(prog="long_chain", description=__doc__)
    parser.add_argument("--datagrams", type=int, default=10_000_000, metavar="N")
    parser.add_argument("--overload", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--rate", type=int, default=STEADY_PPS, metavar="PPS")
    given = parser.parse_args()
    if reason := missing():
        print(f"the chain needs namespaces: {reason}", file=sys.stderr)
        return 1
    remove_leftovers()
    below, above = run(given.datagrams, given.overload, given.rate)
    print(f"below the capacity: {below}\nabove it: {above}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
