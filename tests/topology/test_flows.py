"""Flows: who sends to each rule, of the library and a daemon, against what the senders know."""

import os
import signal
import socket
import time

import pytest
from tests.support.deadline import wait_until

import mcr

from .daemons import serving
from .lab import Lab
from .relays import Ingress, relaying

RULE = "239.1.45.1%in0:5001,name=feed to 239.2.45.1%out0:6001"
BLOCK = "239.1.46.0/30%in0:5000-5001,name=block to 239.2.45.2%out0:6002"
FIRST, SECOND = ("10.1.0.2", 4001), ("10.1.0.3", 4002)
LOW, HIGH = ("10.1.0.2", 4003), ("10.1.0.2", 4004)
CLOCK_S = 0.03
"""How far the coarse clock may be behind."""


def facts(flow: mcr.FlowStats) -> tuple[object, ...]:
    """What a sender knows of it."""
    return (flow.source, flow.source_port, flow.group, flow.port, flow.datagrams, flow.bytes)


def send_all(lab: Lab) -> None:
    """Two senders on one group, and one on two groups of a block."""
    with (
        lab.sender("239.1.45.1", 5001, source=FIRST) as first,
        lab.sender("239.1.45.1", 5001, source=SECOND) as second,
        lab.sender("239.1.46.1", 5000, source=LOW) as low,
        lab.sender("239.1.46.2", 5001, source=HIGH) as high,
    ):
        first.send([bytes(100)] * 7)
        second.send([bytes(200)] * 3)
        low.send([bytes(10)] * 2)
        high.send([bytes(20)])


def check(flows: tuple[mcr.FlowStats, ...], rules: tuple[str, ...], began_s: float) -> None:
    """Each datagram is in its flow, and the flows of a rule are what it matched."""
    feed, block = rules
    assert [facts(flow) for flow in flows if flow.rule == feed] == [
        (*FIRST, "239.1.45.1", 5001, 7, 700),
        (*SECOND, "239.1.45.1", 5001, 3, 600),
    ]
    assert [facts(flow) for flow in flows if flow.rule == block] == [
        (*LOW, "239.1.46.1", 5000, 2, 20),
        (*HIGH, "239.1.46.2", 5001, 1, 20),
    ]
    for flow in flows:
        assert began_s - CLOCK_S <= flow.first_seen <= flow.last_seen <= time.time() + CLOCK_S
        assert flow.ttl_min == flow.ttl_max > 0
        assert flow.dscps == (0,)


def test_the_flows_of_a_relay(lab: Lab, ingress: Ingress) -> None:
    """By address, port and group; with the rates of each."""
    began_s = time.time()
    with relaying(lab.relay, RULE, BLOCK, ingress=ingress, flows=True) as relay:
        assert relay.flows() == ()
        send_all(lab)
        wait_until(lambda: sum(rule.matched for rule in relay.stats().rules) == 13)
        feed, block = (rule.id for rule in relay.rules)
        check(relay.flows(), (feed, block), began_s)
        assert {flow.rule for flow in relay.flows("feed")} == {feed}
        wait_until(lambda: all(flow.rate_1s is not None for flow in relay.flows()))
        assert (relay.flows()[0].rate_10s or mcr.Rate(0, 0, 0)).pps > 0
        with pytest.raises(mcr.RuleError):
            relay.flows("other")
        relay.remove_rule("feed")
        assert {flow.rule for flow in relay.flows()} == {block}
        relay.add_rule(RULE)
        assert relay.flows("feed") == ()


def test_flows_are_off_by_default(lab: Lab) -> None:
    """The error names the fix."""
    with (
        relaying(lab.relay, RULE, ingress="packet") as relay,
        pytest.raises(mcr.McrError, match="flows=True"),
    ):
        relay.flows()


def test_the_flows_of_a_daemon_survive_a_worker(lab: Lab, ingress: Ingress) -> None:
    """Over all workers, and with the counts from before a death."""
    began_s = time.time()
    with (
        serving(lab.relay, "--ingress", ingress, "--workers", "2", "--flows") as daemon,
        daemon.client() as client,
    ):
        rules = tuple(rule.id for rule in client.add_rules([RULE, BLOCK]).added)
        send_all(lab)
        wait_until(lambda: sum(rule.matched for rule in client.stats().rules) == 13)
        known = client.flows()
        assert known.counted
        assert known.total == 4
        check(known.flows, rules, began_s)
        assert [*map(facts, client.flows(limit=1).flows)] == [facts(known.flows[0])]
        for worker in daemon.workers:
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: [(w.deaths, w.state) for w in client.workers()] == [(1, "running")] * 2)
        with lab.sender("239.1.45.1", 5001, source=SECOND) as second:
            second.send([bytes(200)] * 5)
        wait_until(lambda: client.stats(["feed"]).rules[0].matched == 15)
        again = client.flows(["feed"]).flows
        assert [facts(flow)[4:] for flow in again] == [(8, 1600), (7, 700)]
        assert again[0].first_seen < again[0].last_seen


def test_ttl_and_dscp_of_a_flow(lab: Lab, ingress: Ingress) -> None:
    """The range of the one, and each of the other."""
    with (
        relaying(lab.relay, RULE, ingress=ingress, flows=True) as relay,
        lab.sender("239.1.45.1", 5001, source=FIRST) as sender,
    ):
        for ttl, dscp in ((9, 46), (5, 0), (7, 46)):
            sender.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
            sender.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
            sender.send([b"x"])
        wait_until(lambda: relay.stats().rules[0].matched == 3)
        (seen,) = relay.flows()
        assert (seen.ttl_min, seen.ttl_max, seen.dscps) == (5, 9, (0, 46))
