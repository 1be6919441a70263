"""What queueing disciplines make of `priority=` and `dscp=` where outputs overload their link."""

import contextlib
from collections.abc import Iterator

from tests.support.deadline import wait_until

from .checks import assert_balanced
from .egress import OUT_PORT, flow, output, rule
from .lab import Lab
from .namespaces import Namespace, run
from .relays import relaying
from .traffic import PacedFlow

SIZE = 1000
OFFERED_PPS = 500
SECONDS = 4


@contextlib.contextmanager
def limited_with_bands(namespace: Namespace, interface: str) -> Iterator[None]:
    """Three quarters of what two streams offer, in the order of the bands of pfifo_fast."""
    namespace.ip("link", "set", interface, "txqueuelen", "250")
    tbf = ("handle", "1:", "tbf", "rate", "6300kbit", "burst", "5000", "limit", "200000")
    with namespace.shaped(interface, *tbf):
        tc(namespace, "qdisc", "add", "dev", interface, "parent", "1:1", "pfifo_fast")
        yield


@contextlib.contextmanager
def classes_by_dscp(namespace: Namespace, interface: str) -> Iterator[None]:
    """A class of htb for DSCP 46, and half of what another stream offers for the rest."""
    namespace.ip("link", "set", interface, "txqueuelen", "250")
    with namespace.shaped(interface, "handle", "1:", "htb", "default", "2"):
        for number, rate in ((1, "6mbit"), (2, "2100kbit")):
            of = ("parent", "1:", "classid", f"1:{number}")
            tc(namespace, "class", "add", "dev", interface, *of, "htb", "rate", rate)
        match = ("u32", "match", "ip", "dsfield", hex(46 << 2), "0xfc", "flowid", "1:1")
        tc(namespace, "filter", "add", "dev", interface, "parent", "1:", "protocol", "ip", *match)
        yield


def tc(namespace: Namespace, *arguments: str) -> None:
    """Run ``tc`` on a namespace."""
    run("tc", "-n", namespace.name, *arguments)


def test_a_priority_goes_first_behind_a_rate(lab: Lab) -> None:
    """The bands of pfifo_fast: all of the first, the rest of the rate for the last."""
    with limited_with_bands(lab.relay, "out0"):
        first, last = shares(lab, ",priority=6", ",priority=1")
    assert first == 1
    assert 0.3 < last < 0.8


def test_a_dscp_is_no_priority(lab: Lab) -> None:
    """What Linux derives from DSCP 46 is in the band of DSCP 0, so both lose."""
    with limited_with_bands(lab.relay, "out0"):
        marked, plain = shares(lab, ",dscp=46", "")
    assert 0.5 < marked < 0.95
    assert 0.5 < plain < 0.95


def test_a_dscp_chooses_a_class(lab: Lab) -> None:
    """Filters of htb: the class of the DSCP gets all, the other one the half that it has."""
    with classes_by_dscp(lab.relay, "out0"):
        first, last = shares(lab, ",dscp=46", "")
    assert first == 1
    assert 0.3 < last < 0.8


def shares(lab: Lab, first: str, last: str) -> tuple[float, float]:
    """The parts of one stream that arrive through two outputs; what does not arrive is counted."""
    text = rule(1, output(1, options=first), output(2, options=last))
    groups = [part.partition("%")[0] for part in text.split(" to ")[1].split()]
    with (
        lab.receive(groups[0], OUT_PORT) as one,
        lab.receive(groups[1], OUT_PORT) as other,
        relaying(lab.relay, text) as relay,
        lab.sender(flow(1).group, flow(1).port) as sender,
    ):
        with PacedFlow(sender, OFFERED_PPS, SIZE) as flowing:
            wait_until(lambda: len(flowing.sent) >= OFFERED_PPS * SECONDS, 3 * SECONDS)
        count = len(flowing.sent)
        wait_until(lambda: relay.stats().rules[0].outputs[1].wanted == count)
        assert_balanced(relay.stats())
        counters = relay.stats().rules[0].outputs
        receivers = (one, other)
        for receiver, counted in zip(receivers, counters, strict=True):
            receiver.wait_for(counted.sent)
            assert counted.sent + counted.dropped["output_full"] == count
    return len(one.collected) / count, len(other.collected) / count
