"""Loops: copies that reach this host's own inputs, and the rules that form a cycle."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fake_host import (
    BACK,
    ETH1,
    HOST,
    PLAIN,
    addresses,
    check,
    problems,
    running,
)

from mcr.choices import Ingress
from mcr.errors import RuleError
from mcr.rules.loops import FlowKey, ListenerIndex

THERE = "224.0.0.251%eth0:5353 to 224.0.0.251%eth1:5353"
RETURN = "224.0.0.251%eth1:5353 to 224.0.0.251%eth0:5353"
SHOUT = "255.255.255.255%eth0:1 to 255.255.255.255%eth1:1"
MIXED = "255.255.255.255%eth1:6001 to 239.1.1.1%eth0:5001"
ANSWER = "255.255.255.255%eth1:1 to 255.255.255.255%eth0:1"


@pytest.mark.parametrize(
    ("rules", "ingress"),
    [
        ((THERE, RETURN), "packet"),
        ((THERE + ",loop=on", RETURN + ",loop=on"), "packet"),
        ((PLAIN, BACK), "packet"),
        ((SHOUT, ANSWER), "packet"),
        ((THERE, RETURN), "udp"),
        ((THERE + ",loop=off", RETURN + ",loop=off"), "udp"),
        ((THERE + ",loop=on", RETURN), "udp"),
        ((THERE + ",source=keep", RETURN + ",source=keep"), "udp"),
        ((PLAIN + ",loop=off", BACK), "udp"),
        (
            (
                "239.1.1.0/30%eth0:5000-5009 to 239.1.1.0/30%eth1:5000-5009",
                "239.1.1.0/30%eth1:5000-5009 to 239.1.1.0/30%eth0:5000-5009",
            ),
            "udp",
        ),
    ],
)
def test_two_directions_are_no_loop_without_own_copies(
    rules: tuple[str, ...], ingress: Ingress
) -> None:
    """AF_PACKET does not see what this host sends, nor does a socket with loop off."""
    assert len(check(*rules, ingress=ingress).rules) == len(rules)


@pytest.mark.parametrize(
    ("rules", "ingress", "message"),
    [
        ((THERE + ",loop=on", RETURN + ",loop=on"), "udp", "write loop=off on the outputs"),
        (
            (PLAIN, BACK),
            "udp",
            "write loop=off on the outputs to groups, or omit one of these rules",
        ),
        ((SHOUT, ANSWER), "udp", "through rule 2; use the ingress 'packet' (--ingress packet)"),
        ((SHOUT + ",loop=off", ANSWER + ",loop=off"), "udp", "; use the ingress 'packet'"),
        ((PLAIN.replace("239.2.0.1", "255.255.255.255"), MIXED), "udp", "write loop=off on the"),
        (
            ("239.1.1.1%lo:1 to 239.1.1.2%lo:1", "239.1.1.2%lo:1 to 239.1.1.1%lo:1"),
            "packet",
            "through",
        ),
        (
            (
                "239.1.1.1%lo:1 to 239.1.1.2%lo:1,loop=off",
                "239.1.1.2%lo:1 to 239.1.1.1%lo:1,loop=off",
            ),
            "udp",
            "through rule 2; omit one of these rules",
        ),
        (("239.1.1.1%eth0:1 to 239.1.1.1%eth0:1",), "packet", "is the rule's own input"),
        (("239.1.1.1%eth0:1 to 239.1.1.1%eth0:1,loop=off",), "udp", "is the rule's own input"),
    ],
)
def test_cycles_are_refused_where_copies_are_heard(
    rules: tuple[str, ...], ingress: Ingress, message: str
) -> None:
    """On the loopback, by sockets with loop on, and of broadcasts, which always loop."""
    (problem,) = problems(*rules, ingress=ingress)
    assert message in problem.message


@pytest.mark.parametrize(
    ("rule", "ingress", "loop"),
    [
        (THERE, "udp", False),
        (THERE, "packet", True),
        (THERE + ",loop=on", "udp", True),
        (PLAIN, "udp", True),
        ("224.0.0.251%eth0:5353 to 224.0.0.251%lo:5353", "udp", True),
        ("224.0.0.251%eth0:5353 to 224.0.0.251%eth1:5354", "udp", True),
        ("239.1.1.0/30%eth0:1-9 to 239.1.1.2%eth1:3", "udp", False),
    ],
)
def test_copies_to_the_own_group_have_loop_off(rule: str, ingress: Ingress, loop: bool) -> None:
    """Another process may relay the other direction; `loop=on` overrides it."""
    resolution = check(rule, ingress=ingress)
    assert resolution.rules[0].outputs[0].loop == loop
    said = [
        text for text in resolution.warnings if text.startswith("rule 1, output 1, loop: is off")
    ]
    assert len(said) == (not loop)


def test_a_loop_among_running_rules_is_not_blamed_on_others() -> None:
    """A new address can close a loop of running rules; a new rule is not its cause."""
    rule_set = running("10.0.0.1@" + PLAIN, "10.0.9.9@" + BACK)
    later = [
        replace(ETH1, addresses=addresses("10.0.9.9")) if each is ETH1 else each for each in HOST
    ]
    feeder = "239.7.7.7%eth0:1 to 239.1.1.1%eth0:5001"
    assert rule_set.plan(later, add=[feeder]).added


FLOWS = st.builds(
    lambda low, bits, port, more, interface, source: FlowKey(
        IPv4Address(0xEF000000 | low >> bits << bits), bits, port, port + more, interface, source
    ),
    st.integers(0, 63),
    st.integers(0, 6),
    st.integers(1, 12),
    st.integers(0, 6),
    st.sampled_from(["eth0", "eth1"]),
    st.sampled_from([None, IPv4Address("10.0.0.1")]),
)


@given(st.lists(FLOWS, max_size=25), st.integers(0, 5), st.lists(FLOWS, min_size=1, max_size=8))
def test_listeners_are_those_whose_flows_overlap(
    flows: list[FlowKey], gone: int, asked: list[FlowKey]
) -> None:
    """The search through ordered flows finds what a comparison of all groups and ports does."""

    def members(flow: FlowKey) -> set[tuple[object, ...]]:
        first = int(flow.address)
        return {
            (group, port, flow.interface, flow.source)
            for group in range(first, first + 2**flow.bits)
            for port in range(flow.port, flow.last_port + 1)
        }

    listeners = ListenerIndex()
    for number, flow in enumerate(flows):
        listeners.add([flow], str(number))
    for number, flow in enumerate(flows[:gone]):
        listeners.remove([flow], str(number))
    left = list(enumerate(flows))[gone:]
    for flow in asked:
        expected = {str(number) for number, listened in left if members(listened) & members(flow)}
        found = list(listeners.matching(flow))
        assert set(found) == expected
        assert len(found) == len(expected)
    for number, flow in left:
        listeners.remove([flow], str(number))
    assert not listeners


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12, unique=True))
def test_loops_are_found_exactly_where_the_graph_has_them(edges: list[tuple[int, int]]) -> None:
    """Rules over few groups are refused exactly if a plain search finds a cycle."""
    rules = [f"239.1.1.{a}%lo:1 to 239.1.1.{b}%lo:1" for a, b in edges]
    reach = set(edges)
    for _ in range(6):
        reach |= {(a, d) for a, b in reach for c, d in edges if b == c}
    try:
        check(*rules)
    except RuleError:
        looped = True
    else:
        looped = False
    assert looped == any(a == b for a, b in reach)
