"""The rates of interfaces, rules and outputs: on a paced stream, of the library and a daemon."""

import time

import pytest

import mcr

from .daemons import serving
from .lab import Lab
from .relays import Ingress, relaying

RULE = "239.1.44.1%in0:5001 to 239.2.44.1%out0:6001"
OTHER = "239.1.44.2%out1:5001,name=other to 239.2.44.2%out0:6002"
PAYLOAD = bytes(100)
TICK_S = 0.02
TICK_DATAGRAMS = 5


def paced_stats(lab: Lab, rules: mcr.Relay | mcr.Client) -> tuple[mcr.Stats, float]:
    """Send for three seconds; return the counters then, and the datagrams a second sent lately."""
    sent_at: list[float] = []
    with lab.sender("239.1.44.1", 5001) as sender:
        ends_s = time.monotonic() + 3
        while (now_s := time.monotonic()) < ends_s:
            sender.send([PAYLOAD] * TICK_DATAGRAMS)
            sent_at.append(now_s)
            time.sleep(TICK_S)
        stats = rules.stats()
    recent = [at for at in sent_at if at > sent_at[-1] - 1.2]
    return stats, TICK_DATAGRAMS * (len(recent) - 1) / (recent[-1] - recent[0])


def check(rate: mcr.Rate | None, pps: float) -> None:
    """A rate of datagrams with the payload, none of which was dropped."""
    assert rate is not None
    assert rate.pps == pytest.approx(pps, rel=0.25)
    assert rate.bits_per_s == pytest.approx(8 * len(PAYLOAD) * rate.pps, rel=0.01)
    assert rate.dropped_pps == 0


@pytest.mark.parametrize("daemon", [False, True], ids=["relay", "daemon"])
def test_rates_follow_the_stream(lab: Lab, ingress: Ingress, *, daemon: bool) -> None:
    """Over a second and since the start; each answer has its time."""
    began_s = time.time()
    if daemon:
        with serving(lab.relay, "--ingress", ingress) as started, started.client() as client:
            client.add_rules([RULE, OTHER])
            stats, pps = paced_stats(lab, client)
            check_selection(client)
    else:
        with relaying(lab.relay, RULE, ingress=ingress) as relay:
            assert relay.stats().rules[0].rate_1s is None
            stats, pps = paced_stats(lab, relay)
    assert began_s < stats.time <= time.time()
    assert 3 <= stats.uptime_s <= time.time() - began_s
    (interface,) = (each for each in stats.interfaces if each.name == "in0")
    rule = stats.rules[0]
    for counted in (interface, rule, rule.outputs[0]):
        check(counted.rate_1s, pps)
        check(counted.rate_10s, pps)
    assert interface.received_bytes == len(PAYLOAD) * interface.received


def check_selection(client: mcr.Client) -> None:
    """With a rule named, totals are the sums of the interfaces and rules shown."""
    every, one = client.stats(), client.stats(["other"])
    assert [each.name for each in every.interfaces] == ["in0", "out1"]
    assert [each.name for each in one.interfaces] == ["out1"]
    assert one.totals.received == one.interfaces[0].received == 0
    assert every.totals.received_bytes == sum(each.received_bytes for each in every.interfaces) > 0


def test_what_an_output_drops_is_a_rate_of_its_rule(lab: Lab) -> None:
    """Beside what the rule matches."""
    with (
        relaying(lab.relay, RULE, ingress="packet") as relay,
        lab.relay.down("out0"),
    ):
        stats, pps = paced_stats(lab, relay)
        rule = stats.rules[0]
        for counted in (rule, rule.outputs[0]):
            assert counted.rate_1s is not None
            assert counted.rate_1s.dropped_pps == pytest.approx(pps, rel=0.25)
        assert rule.outputs[0].rate_1s is not None
        assert rule.outputs[0].rate_1s.pps == 0
