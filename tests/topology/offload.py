"""What tests of the relay in the kernel share."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from tests.support.deadline import wait_until

import mcr

from .bursts import BurstSender
from .checks import DEADLINE_S, assert_balanced
from .egress import ReadStats, matched, settle_matched
from .frames import Flow, udp_frame
from .lab import Lab
from .relays import Ingress, Options, relaying

Offload = Literal["auto", "require"]
STEP = 64
"""Frames that are sent at once: fewer than the ring of a veth has."""


def native(lab: Lab) -> None:
    """Single frames with finished checksums, and receivers to which drivers send XDP frames."""
    lab.set_offload(on=False)
    lab.source.offload("s0", tx_checksum_ip_generic=False)
    lab.source.queue("s0")
    for near, far in (("out0", "d0"), ("out1", "d1")):
        lab.relay.queue(near)
        lab.receiver.offload(far, gro=True)


@contextlib.contextmanager
def offloading(
    lab: Lab,
    *rules: mcr.Rule | str,
    offload: Offload = "require",
    ingress: Ingress = "auto",
    workers: int = 1,
) -> Iterator[mcr.Relay]:
    """Run a relay with offload on the relay host."""
    options: Options = {"offload": offload, "ingress": ingress, "workers": workers}
    with relaying(lab.relay, *rules, **options) as relay:
        yield relay


def relayers(stats: mcr.Stats) -> list[str]:
    """`kernel` for each rule, or the reason why not."""
    return [rule.offload_reason or rule.offload for rule in stats.rules]


def wait_for_relayers(relay: mcr.Relay, *wanted: str, seconds: float = DEADLINE_S) -> None:
    """Wait until the rules have these relayers."""

    def is_reached() -> bool:
        stats = relay.stats()
        assert_balanced(stats)
        return relayers(stats) == list(wanted)

    wait_until(is_reached, seconds, f"{wanted}: {relayers(relay.stats())}")


def send_in_steps(
    sender: BurstSender, flows: Sequence[Flow], sent: Sequence[bytes], stats: ReadStats
) -> None:
    """Send each payload to every flow; a step follows once the one before was matched."""
    size = STEP // len(flows)
    for start in range(0, len(sent), size):
        piece = sent[start : start + size]
        wanted = matched(stats()) + len(piece) * len(flows)
        sender.send([udp_frame(each, payload) for payload in piece for each in flows])
        settle_matched(stats, wanted)


def features(lab: Lab, interface: str) -> Callable[[], str]:
    """A reader of everything about an interface that attaching a program changes."""
    return lambda: (
        lab.relay.run("ethtool", "-k", interface) + lab.relay.ip("-d", "link", "show", interface)
    )
