"""Outputs with a rate: what arrives of a stream that exceeds it, beside an output without one."""

import time

import pytest
from tests.support.deadline import wait_until

from .checks import assert_balanced
from .egress import OUT_PORT, Egress, Kind, flow, output, relayed, rule, single_frames
from .lab import Lab
from .relays import Ingress
from .timing import TimedReceiver, most_within
from .traffic import PacedFlow, payloads

SECONDS = 2
SIZE = 1000
OFFERED_PPS = 6000


@pytest.mark.parametrize(
    ("kind", "ingress", "version", "egress", "options", "rate", "burst"),
    [
        ("library", "packet", 4, "socket", ",rate=16mbit,burst=200000", 2000, 200),
        ("daemon", "udp", 6, "auto", ",rate=2kpps,burst=200", 2000, 200),
        ("library", "packet", 4, "xdp", ",rate=2kpps,burst=200", 2000, 200),
    ],
)
def test_a_rate_holds_and_a_neighbour_gets_all(
    lab: Lab,
    kind: Kind,
    ingress: Ingress,
    version: int,
    egress: Egress,
    options: str,
    rate: int,
    burst: int,
) -> None:
    """Of three times the rate, the rate and the burst arrive; the rest has a reason."""
    if egress == "xdp":
        single_frames(lab)
    limited = output(1, version=version, options=options)
    text = rule(1, limited, output(2, version=version), version=version)
    groups = [part.partition("%")[0] for part in text.split(" to ")[1].split()]
    with (
        TimedReceiver(lab, groups[0], OUT_PORT) as slow,
        lab.receive(groups[1], OUT_PORT) as fast,
        relayed(lab, kind, ingress, text, egress=egress) as stats,
        lab.sender(flow(1, version).group, flow(1, version).port) as sender,
    ):
        with PacedFlow(sender, OFFERED_PPS, SIZE) as flowing:
            time.sleep(SECONDS)
        fast.expect(flowing.sent)
        count = len(flowing.sent)
        wait_until(lambda: stats().as_dict()["rules"][0]["outputs"][0]["wanted"] == count)
        assert_balanced(stats())
        first = stats().as_dict()["rules"][0]["outputs"][0]
        slow.wait_for(first["sent"])
    assert first["wanted"] == count == first["sent"] + first["dropped"]["rate_limited"]
    positions = [int.from_bytes(each[:8], "little") for each in slow.collected]
    assert positions == sorted(set(positions)), "reordered or repeated"
    elapsed_s = slow.times_s[-1] - slow.times_s[0]
    assert 0.98 * rate * elapsed_s < len(positions) < 1.02 * (rate * elapsed_s + burst)
    assert most_within(slow.times_s, 0.1) <= rate * 0.1 + burst + 64, "one batch may be late"


@pytest.mark.parametrize("ingress", ["packet", "udp"])
@pytest.mark.parametrize("version", [4, 6])
def test_of_a_super_frame_as_much_leaves_as_there_are_tokens(
    lab: Lab, ingress: Ingress, version: int
) -> None:
    """The first datagrams of it, in one send; the rest has a reason, and a neighbour gets all."""
    lab.set_offload(on=True)
    limited = output(1, version=version, options=",rate=1pps,burst=10")
    text = rule(1, limited, output(2, version=version), version=version)
    groups = [part.partition("%")[0] for part in text.split(" to ")[1].split()]
    sent = payloads(60, (1000,))
    with (
        lab.receive(groups[0], OUT_PORT) as slow,
        lab.receive(groups[1], OUT_PORT) as fast,
        relayed(lab, "library", ingress, text) as stats,
        lab.sender(flow(1, version).group, flow(1, version).port) as sender,
    ):
        sender.send_super(sent, batch=len(sent))
        fast.expect(sent)
        wait_until(lambda: stats().as_dict()["rules"][0]["outputs"][0]["wanted"] == len(sent))
        assert_balanced(stats())
        first = stats().as_dict()["rules"][0]["outputs"][0]
        slow.wait_for(first["sent"])
        assert slow.collected == sent[: first["sent"]]
    assert first["sent"] == 10
    assert first["dropped"]["rate_limited"] == 50
