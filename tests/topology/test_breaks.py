"""A path broken in twelve ways: the statistics and `mcr doctor` name each without being asked."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import pytest
from tests.support.deadline import wait_until

import mcr

from .frames import Flow, Injector, udp_frame
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import payloads

GROUP = "239.1.51.1"
RULE = f"{GROUP}%in0:5001,name=feed to 239.2.51.1%out0:6001"
Break = Callable[[Lab], contextlib.AbstractContextManager[object]]


@dataclasses.dataclass(frozen=True)
class Case:
    """One way to break the path, and the words in which mcr names it."""

    words: str
    ingress: Ingress = "packet"
    rule: str = RULE
    more: str | None = None
    """A second rule."""
    broken: Break = lambda _lab: contextlib.nullcontext()
    port: int = 5001
    size: int = 100


@contextlib.contextmanager
def sysctl(lab: Lab, name: str, value: int) -> Iterator[None]:
    """Set a value for the time of the block."""
    lab.relay.sysctl(name, value)
    try:
        yield
    finally:
        lab.relay.sysctl(name, 0)


@contextlib.contextmanager
def tagged(lab: Lab) -> Iterator[None]:
    """Nothing but frames of a VLAN: the sender's are sent by `look`."""
    with Injector(lab.source, "s0") as frames:
        frames.send(udp_frame(Flow("10.1.0.2", GROUP, 5001), b"tagged", tags=((0x8100, 7),)))
        yield


@contextlib.contextmanager
def damaged(lab: Lab) -> Iterator[None]:
    """Datagrams with a wrong checksum."""
    with Injector(lab.source, "s0") as frames:
        frames.send(udp_frame(Flow("10.1.0.2", GROUP, 5001), b"damaged")[:-1] + b"X")
        yield


SLOW = ("tbf", "rate", "8kbit", "burst", "2000", "limit", "2000")
CASES = {
    "the input's link is down": Case("in0 is down", broken=lambda lab: lab.relay.down("in0")),
    "the cable is pulled": Case("in0 has no carrier", broken=lambda lab: lab.source.down("s0")),
    "the output's link is down": Case("out0 is down", broken=lambda lab: lab.relay.down("out0")),
    "there is no such interface": Case("no interface nosuch0", rule=RULE.replace("in0", "nosuch0")),
    "another port": Case("arrives for port 5999", port=5999),
    "another sender": Case("none from 10.1.0.9", rule=f"10.1.0.9@{RULE}"),
    "a more specific rule": Case(
        "matched by the more specific rule",
        rule="239.1.51.0/28%in0:5001,name=wide to 239.2.51.9%out1:6001",
        more=RULE,
    ),
    "a VLAN": Case("none without a VLAN tag", broken=tagged, port=0),
    "damage": Case("bad_checksum", broken=damaged, port=0),
    "the reverse path": Case(
        "reverse-path filter",
        ingress="udp",
        rule=f"192.0.2.77@{RULE}",
        broken=lambda lab: sysctl(lab, "net.ipv4.conf.in0.rp_filter", 1),
        port=0,
    ),
    "a queue that is full": Case(
        "output_full", broken=lambda lab: lab.relay.shaped("out0", *SLOW), size=1400
    ),
    "no route to a host": Case(
        "no route to 203.0.113.9", rule=RULE.replace("239.2.51.1%out0", "203.0.113.9")
    ),
}


def named(lab: Lab, case: Case, relay: mcr.Relay) -> str:
    """All that mcr says: states, what was dropped and why, and the findings."""
    stats = relay.stats()
    words = [rule.state for rule in stats.rules]
    for interface in stats.interfaces:
        words += [reason for reason, count in interface.dropped.items() if count]
    for output in (output for rule in stats.rules for output in rule.outputs):
        words += [reason for reason, count in output.dropped.items() if count]
    with lab.relay:
        findings = mcr.diagnose(case.rule)
    return "\n".join([*words, *(each.text for each in findings if each.severity != "ok")])


@pytest.mark.parametrize("name", CASES)
def test_each_break_is_named(lab: Lab, name: str) -> None:
    """In the state of the rule, the reason of a drop, or a finding."""
    case = CASES[name]
    rules = [each for each in (case.rule, case.more) if each]
    with (
        relaying(lab.relay, *rules, ingress=case.ingress) as relay,
        lab.sender(GROUP, case.port or 9) as sender,
        case.broken(lab),
    ):

        def is_named() -> bool:
            if case.port:
                with contextlib.suppress(OSError):
                    sender.send(payloads(20, (case.size,)))
            return case.words in named(lab, case, relay)

        wait_until(is_named, 15, case.words)
        if name == "a queue that is full":
            lab.relay.reshape("out0", *SLOW[:2], "10gbit", *SLOW[3:])
