"""Loops that no check of rules can see: two relays feed each other over a network between them.

relay A                                             relay B
in0  10.1.0.1  ----  a wire that delays  ----  b1   10.1.0.2, .3 (the sender)
out0 10.2.0.1  ------------------------------  b0   10.2.0.2
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest
from tests.support.deadline import wait_until

import mcr
from mcr.alarms.timing import Timing

from .daemons import serving
from .delayed_wire import delaying
from .egress import Kind
from .lab import Lab
from .namespaces import Namespace, Net
from .relays import Ingress, relaying
from .traffic import PacedFlow, Sender, payloads

INTO = {4: "239.1.49.1", 6: "ff15::49:1"}
OUT = {4: "239.2.49.1", 6: "ff15::49:2"}
SENDER = {4: "10.1.0.3", 6: "fd01::3"}
DELAY_S = 0.04
QUICK = Timing(loop_end_s=3.0)


@dataclass(frozen=True)
class Ring:
    """The hosts of two relays, and the wire between them."""

    first: Namespace
    second: Namespace
    wire: Namespace

    @classmethod
    def build(cls, net: Net) -> "Ring":
        """Make the namespaces, links and addresses."""
        ring = cls(net.namespace(), net.namespace(), net.namespace())
        net.link(ring.first, "in0", ring.wire, "w0")
        net.link(ring.wire, "w1", ring.second, "b1")
        net.link(ring.first, "out0", ring.second, "b0")
        # The wire copies what is in a frame: its checksum has to be there.
        for namespace, end in ((ring.first, "in0"), (ring.second, "b1")):
            namespace.offload(end, tx_checksum_ip_generic=False)
        ring.first.address("in0", "10.1.0.1/24", "fd01::1/64")
        ring.first.address("out0", "10.2.0.1/24", "fd02::1/64")
        ring.second.address("b1", "10.1.0.2/24", "10.1.0.3/24", "fd01::2/64", "fd01::3/64")
        ring.second.address("b0", "10.2.0.2/24", "fd02::2/64")
        return ring


@pytest.fixture(scope="module")
def ring(net: Net) -> Ring:
    """Two hosts whose relays can feed each other."""
    return Ring.build(net)


@contextmanager
def watched(
    ring: Ring, kind: Kind, ingress: Ingress, rule: str
) -> Iterator[tuple[Callable[[float], mcr.Event | None], Callable[[], mcr.RuleStats]]]:
    """The relay that is judged: how to read its alarms, and the statistics of its rule."""
    with ExitStack() as stack:
        if kind == "library":
            relay = stack.enter_context(relaying(ring.first, rule, ingress=ingress))
            events = stack.enter_context(relay.events(["alarm"]))
            yield events.read, lambda: relay.stats().rules[0]
        else:
            daemon = stack.enter_context(serving(ring.first, "--ingress", ingress))
            client = stack.enter_context(daemon.client())
            stream = stack.enter_context(client.events(["alarm"]))
            client.add_rules([rule])
            yield stream.read, lambda: client.stats().rules[0]


@pytest.mark.parametrize(
    ("kind", "ingress", "version", "options"),
    [
        ("library", "packet", 4, ""),
        ("library", "udp", 6, ""),
        ("daemon", "packet", 6, ",ttl=keep"),
        ("daemon", "udp", 4, ",ttl=keep"),
    ],
)
def test_relays_that_feed_each_other_are_an_alarm(
    ring: Ring,
    kind: Kind,
    ingress: Ingress,
    version: int,
    options: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The relay at which the datagrams enter names its rule and where they come back from."""
    monkeypatch.setattr("mcr.relay.active_rules.TIMING", QUICK)
    there = f"{INTO[version]}%in0:5001,name=feed to {OUT[version]}%out0:6001{options}"
    back = f"{OUT[version]}%b0:6001 to {INTO[version]}%b1:5001{options}"
    with (
        delaying(ring.wire, "w0", "w1", DELAY_S),
        watched(ring, kind, ingress, there) as (read, rule),
        Sender(ring.second, "b1", INTO[version], 5001, source=(SENDER[version], 4000)) as sender,
    ):
        with relaying(ring.second, back, ingress=ingress) as other, PacedFlow(sender, 8):
            event = read(25)
            assert event is not None
            assert (event.event, event.fields["name"], event.fields["code"]) == (
                *("raised", "feed"),
                "loop",
            )
            alarm = event.alarm
            assert alarm is not None
            assert alarm.source in {SENDER[version], SENDER[version][:-1] + "2"}
            assert alarm.seen >= 3
            now = rule()
            assert now.state_code == "looping"
            assert now.looped >= 3
            assert [each.code for each in now.alarms] == ["loop"]
            # All that the other one hears comes from the first.
            assert other.stats().rules[0].looped == 0
        ended = read(25)
        assert ended is not None
        assert (ended.event, ended.fields["code"]) == ("ended", "loop")
        assert rule().alarms == ()


def test_redundant_feeds_and_repeated_payloads_are_none(lab: Lab, ingress: Ingress) -> None:
    """Each datagram from two senders, and some that one of them sends again and again."""
    feed = f"{INTO[4]}%in0:5001 to {OUT[4]}%out0:6001"
    constant = f"{INTO[4]}%in0:5002 to {OUT[4]}%out0:6002"
    first, second = (("10.1.0.2", 4901), ("10.1.0.3", 4902))
    with (
        relaying(lab.relay, feed, constant, ingress=ingress) as relay,
        relay.events(["alarm"]) as events,
        lab.sender(INTO[4], 5001, source=first) as one,
        lab.sender(INTO[4], 5001, source=second) as two,
        lab.sender(INTO[4], 5002, source=("10.1.0.2", 4903)) as again,
    ):
        sent = payloads(1, (400,))
        with PacedFlow(one, 100), PacedFlow(two, 100):
            for _ in range(16):
                again.send(sent * 50)
                assert events.read(0.5) is None
        wait_until(lambda: relay.stats().rules[1].matched == 800)
        stats = relay.stats()
        assert stats.rules[0].matched > 1000
        assert [rule.looped for rule in stats.rules] == [0, 0]
