"""What the doctor says of a running relay, from its counters alone."""

from dataclasses import replace

import pytest

from mcr.doctor import Severity
from mcr.doctor.running import check_running
from mcr.stats import (
    Alarm,
    FlowStats,
    InterfaceStats,
    OutputStats,
    Rate,
    RuleFacts,
    RuleStats,
    Stats,
)

NOW = 1000.0
OUTPUT = OutputStats(
    "239.2.0.1%eth1:6001", "239.2.0.1", 9, 9, 900, 0, 0, {}, {}, rate_10s=Rate(9, 0, 0)
)
RULE = RuleStats(
    "0" * 12,
    "feed",
    "239.1.1.1%eth0:5001,name=feed to 239.2.0.1%eth1:6001",
    "flowing",
    9,
    900,
    (OUTPUT,),
    "flowing",
)
ETH0 = InterfaceStats("eth0", "packet", 9, 9, 0, 0, None, {})
FLOW = FlowStats(
    RULE.id,
    "10.0.0.5",
    4000,
    "239.1.1.1",
    5001,
    9,
    900,
    NOW,
    NOW,
    4,
    4,
    (0,),
    rate_1s=Rate(9, 0, 0),
)


def found(
    rule: RuleStats = RULE, interface: InterfaceStats = ETH0, flows: tuple[FlowStats, ...] = (FLOW,)
) -> list[tuple[str, Severity, str]]:
    """The findings about a relay of one rule."""
    stats = Stats((interface,), (rule,), time=NOW)
    return [(each.name, each.severity, each.text) for each in check_running(stats, flows)]


def test_nothing_is_wrong() -> None:
    """A rule that flows, and a disabled one with whatever output, have no finding."""
    assert found() == []
    parked = replace(OUTPUT, parked="eth1 is down")
    assert found(replace(RULE, state_code="disabled", outputs=(parked,))) == []


@pytest.mark.parametrize(
    ("rule", "name", "severity", "text"),
    [
        (
            replace(RULE, state_code="joined", state="joined, no frame seen"),
            "traffic",
            "advice",
            "joined, no frame seen",
        ),
        (
            replace(RULE, state_code="waiting", facts=RuleFacts(obstacle="eth0 is down")),
            "traffic",
            "problem",
            "rule feed cannot receive: eth0 is down",
        ),
        (
            replace(RULE, state_code="below_expected", alarms=(Alarm("silent", 990, 2, 10),)),
            "traffic",
            "problem",
            "nothing for 10.0 s",
        ),
        (
            replace(RULE, outputs=(replace(OUTPUT, parked="eth1 is down"),)),
            "output",
            "problem",
            "output 1 of rule feed (239.2.0.1%eth1:6001) is parked: eth1 is down",
        ),
        (
            replace(
                RULE, outputs=(replace(OUTPUT, dropped={"output_full": 3}, rate_10s=Rate(9, 0, 1)),)
            ),
            "loss",
            "problem",
            "lost 10 % of its copies in the last 10 s; lost since it was added: output_full 3",
        ),
        (
            replace(RULE, outputs=(replace(OUTPUT, dropped={"too_big": 3}),)),
            "mtu",
            "problem",
            "3 copies were longer than the MTU",
        ),
        (
            replace(RULE, outputs=(replace(OUTPUT, last_refused=NOW - 1),)),
            "refused",
            "advice",
            "no program listens",
        ),
        (replace(RULE, flows_evicted=7), "flows", "advice", "7 flows of rule feed gave way"),
    ],
)
def test_each_thing_is_found(rule: RuleStats, name: str, severity: str, text: str) -> None:
    """Once, with how serious it is."""
    ((told, how, sentence),) = found(rule)
    assert (told, how) == (name, severity)
    assert text in sentence


def test_interfaces_and_senders() -> None:
    """An interface that lost frames or has failed, and two senders on one group; old ones not."""
    ((name, how, text),) = found(interface=replace(ETH0, kernel_dropped_frames=5))
    assert (name, how) == ("receive", "advice")
    assert "dropped 5 frames on eth0" in text
    ((_, how, text),) = found(interface=replace(ETH0, error="ENETDOWN"))
    assert (how, text) == ("problem", "receiving ended with ENETDOWN")
    second = replace(FLOW, source="10.0.0.6")
    ((name, how, text),) = found(flows=(FLOW, second))
    assert (name, how) == ("senders", "advice")
    assert "10.0.0.5 port 4000, 10.0.0.6 port 4000" in text
    assert found(flows=(FLOW, replace(second, rate_1s=Rate(0, 0, 0)))) == []
    assert found(flows=(FLOW, replace(second, group="239.1.1.2"))) == []
