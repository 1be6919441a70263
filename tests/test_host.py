"""One rule on a host: how it is resolved, and what the host lacks for it."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from tests.support.fake_host import (
    DOWN,
    ETH0,
    ETH1,
    HOST,
    PLAIN,
    TUN,
    addresses,
    check,
    problems,
)

from mcr.errors import Problem, RuleError
from mcr.rules import Input, Output, Rule
from mcr.rules.ruleset import RuleSet, resolve


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Resolve host names from a table, without a name server."""
    known = {
        "studio.example": "192.0.2.7",
        "six.example": "2001:db8::7",
        "grp.example": "239.2.0.9",
    }

    def getaddrinfo(host: str, port: None, family: int, kind: int) -> list[tuple[object, ...]]:
        address = known.get(host)
        wrong = family and address and (":" in address) != (family == socket.AF_INET6)
        if address is None or wrong:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(family, kind, 17, "", (address, 0))]

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


def test_a_rule_is_resolved_with_every_default_filled_in() -> None:
    """The core gets interface indices, the effective TTL and all defaults."""
    (rule,) = check(PLAIN + " 192.0.2.7:7000,ttl=8,dscp=46,source=10.0.1.1,sport=9").rules
    taken, (group, host) = rule.input, rule.outputs
    assert (taken.group, taken.port) == (IPv4Address("239.1.1.1"), 5001)
    assert (taken.interface, taken.ifindex, taken.vlan, taken.sources) == ("eth0", 2, 0, ())
    assert (group.interface, group.ifindex, group.ttl, group.dscp) == ("eth1", 3, 1, 0)
    assert (group.source, group.source_port, group.loop) == (None, None, True)
    assert (host.interface, host.ifindex, host.ttl, host.dscp) == ("", 0, 8, 46)
    assert (host.source, host.source_port) == (IPv4Address("10.0.1.1"), 9)
    assert host.priority is None


def test_an_alternative_name_is_as_good_as_the_name() -> None:
    """The core gets the written name, the checks use the interface's own."""
    named = replace(ETH0, altnames=("feed", "x" * 127))
    text = f"239.1.1.1%feed:5001 to 239.2.0.1%{'x' * 127}:6001"
    (rule,) = resolve([text], [named, ETH1], ingress="packet").rules
    (output,) = rule.outputs
    assert (rule.input.interface, rule.input.ifindex, rule.input.device) == ("feed", 2, "eth0")
    assert (output.interface, output.ifindex, output.device) == ("x" * 127, 2, "eth0")
    with pytest.raises(RuleError, match="did you mean 'feed'"):
        resolve([text.replace("feed", "fed")], [named, ETH1], ingress="packet")


def test_names_of_an_interface_do_not_hide_conflicts() -> None:
    """Duplicates and loops are refused, whichever name a rule uses."""
    named = (replace(ETH0, altnames=("feed",)), replace(ETH1, altnames=("out",)))
    rules = [PLAIN, "239.1.1.1%feed:5001 to 239.2.0.1%out:6001"]
    with pytest.raises(RuleError, match="would arrive twice"):
        resolve(rules, named, ingress="packet")
    with pytest.raises(RuleError, match="the rule's own input"):
        resolve(["239.1.1.1%feed:5001 to 239.1.1.1%eth0:5001,loop=on"], named, ingress="udp")
    named_one = "10.0.0.9@239.1.1.1%feed:5001 to 239.2.0.9%out:6001"
    warnings = resolve([PLAIN, named_one], named, ingress="packet").warnings
    assert any("gets none" in warning for warning in warnings), warnings


def test_kept_values_reach_the_core() -> None:
    """As words beside values; a plain output covers one address and port."""
    (rule,) = check(PLAIN + ",ttl=decrement,dscp=keep,source=keep,sport=keep").rules
    (output,) = rule.outputs
    assert (output.ttl, output.dscp) == ("decrement", "keep")
    assert (output.source, output.source_port) == ("keep", "keep")
    assert (output.address_bits, output.port, output.last_port) == (0, 6001, 6001)


def test_a_name_is_looked_up_for_the_kept_source() -> None:
    """A copy with its sender's address goes to a host of the same IP version."""
    (rule,) = check("239.1.1.1%eth0:1 to studio.example:1,source=keep").rules
    assert rule.outputs[0].address == IPv4Address("192.0.2.7")
    (problem,) = problems("239.1.1.1%eth0:1 to six.example:1,source=keep")
    assert "does not resolve to an IPv4 address, which its source needs" in problem.message


def test_a_kept_dscp_leaves_ipv6_its_priority() -> None:
    """Only IPv4 derives the priority of a copy from its DSCP."""
    assert check("239.1.1.1%eth0:1 to ff3e::2%eth1:1,dscp=keep,priority=3").rules


def test_rules_are_resolved_in_the_order_given() -> None:
    """Values and text can be mixed, and the order stays."""
    other = Rule(Input("239.1.1.2", 5001, interface="eth0"), [Output("192.0.2.7", 7000)])
    resolved = check(other, PLAIN).rules
    assert [str(rule.input.group) for rule in resolved] == ["239.1.1.2", "239.1.1.1"]


def test_vlan_and_sources_reach_the_core() -> None:
    """Unchanged."""
    (rule,) = check("10.9.9.1+10.9.9.2@239.1.1.1%eth0:1,vlan=7 to 192.0.2.7:1").rules
    assert rule.input.vlan == 7
    assert rule.input.sources == addresses("10.9.9.1", "10.9.9.2")


def test_an_input_interface_needs_no_address() -> None:
    """Joining works without an address, so an input may do without one."""
    assert check("239.1.1.1%bare:1 to 192.0.2.7:1").rules


def test_loopback_needs_no_multicast_flag() -> None:
    """The loopback joins and sends without the flag that other interfaces need."""
    assert check("239.1.1.1%lo:1 to 239.2.0.1%lo:2 ff3e::2%lo:2").rules


def test_a_local_address_determines_its_interface() -> None:
    """Even in 127.0.0.0/8."""
    resolved = check("10.0.1.1:1 to 192.0.2.7:1", "127.0.0.9:1 to 192.0.2.7:1").rules
    assert [rule.input.interface for rule in resolved] == ["eth1", "lo"]


def test_a_local_address_on_another_interface() -> None:
    """A host answers for its addresses on all interfaces, so a named one is accepted."""
    (rule,) = check("10.0.1.1%eth0:1 to 192.0.2.7:1").rules
    assert rule.input.interface == "eth0"


def test_an_address_that_several_interfaces_have_needs_one_named() -> None:
    """A link-local address on two interfaces is ambiguous."""
    twin = replace(ETH1, addresses=addresses("fe80::1"))
    with pytest.raises(RuleError) as caught:
        resolve(["[fe80::1]:1 to 192.0.2.7:1"], [ETH0, twin], ingress="packet")
    assert caught.value.problems == (
        Problem(
            ("rule", 1, "input", "interface"),
            "several interfaces have fe80::1; name one of eth0, eth1",
        ),
    )


def test_an_explicit_source_stands_in_for_the_interface_address() -> None:
    """With a source of this host, the output's interface needs no address of its own."""
    (rule,) = check("239.1.1.1%eth0:1 to 239.2.0.1%bare:2,source=10.0.0.1").rules
    assert rule.outputs[0].source == IPv4Address("10.0.0.1")


def test_host_names_are_looked_up_once_and_get_the_ttl_of_their_address() -> None:
    """An output's name becomes its address; the default TTL follows the address."""
    (rule,) = check("239.1.1.1%eth0:1 to studio.example:1 six.example:1 grp.example%eth1:1").rules
    assert [str(output.address) for output in rule.outputs] == [
        "192.0.2.7",
        "2001:db8::7",
        "239.2.0.9",
    ]
    assert [output.ttl for output in rule.outputs] == [64, 64, 1]


@pytest.mark.parametrize(
    ("rule", "field", "message"),
    [
        (
            "239.1.1.1:1 to 192.0.2.7:1",
            "input, interface",
            "multicast needs one; write 239.1.1.1%INTERFACE with lo, eth0, eth1, v4only or bare",
        ),
        (
            "239.1.1.1%eth0:1 to 239.2.0.1:1",
            "output 1, interface",
            "multicast needs one; write 239.2.0.1%INTERFACE with lo, eth0, eth1, v4only or bare",
        ),
        ("239.1.1.1%eth0:1 to [fe80::9]:1", "output 1, interface", "a link-local address needs"),
        (
            "239.1.1.1%ehto0:1 to h:1",
            "input, interface",
            "no interface 'ehto0'; did you mean 'eth0'",
        ),
        (
            "239.1.1.1%wlan:1 to h:1",
            "input, interface",
            "this host has lo, eth0, eth1, v4only, bare",
        ),
        ("239.1.1.1%eth0:1 to 192.0.2.7%eht1:1", "output 1, interface", "did you mean 'eth1'?"),
        ("239.1.1.1%down:1 to h:1", "input, interface", "down is down; run 'ip link set down up'"),
        ("239.1.1.1%eth0:1 to 239.2.0.1%down:1", "output 1, interface", "down is down"),
        ("10.0.3.1:1 to h:1", "input, group", "down is down"),
        ("239.1.1.1%tun0:1 to h:1", "input, interface", "'ip link set tun0 multicast on'"),
        ("239.1.1.1%eth0:1 to 239.2.0.1%tun0:1", "output 1, interface", "has multicast disabled"),
        (
            "239.1.1.1%eth0:1 to ff3e::2%v4only:1",
            "output 1, interface",
            "v4only has no IPv6 address",
        ),
        ("239.1.1.1%eth0:1 to 239.2.0.1%bare:1", "output 1, interface", "bare has no IPv4 address"),
        ("239.1.1.1%eth0:1 to 192.0.2.7%bare:1", "output 1, interface", "bare has no IPv4 address"),
        ("10.9.9.9:1 to h:1", "input, group", "10.9.9.9 is neither multicast nor an address of"),
        ("10.9.9.9%eth0:1 to h:1", "input, group", "this host, which has 127.0.0.1, ::1, 10.0.0.1"),
        (
            "239.1.1.1%eth0:1 to h:1,source=10.9.9.9",
            "output 1, source",
            "is not an address of this",
        ),
        (
            "239.1.1.1%eth0:1 to h:1,dscp=keep,priority=3",
            "output 1, priority",
            "cannot be combined with dscp=keep in IPv4",
        ),
        ("239.1.1.1%eth0:1 to nohost:1", "output 1, address", "the host 'nohost' does not resolve"),
        (
            "239.1.1.1%eth0:1 to six.example:1,source=10.0.0.1",
            "output 1, address",
            "'six.example' does not resolve to an IPv4 address, which its source needs: Name or",
        ),
        ("239.1.1.1%eth0:1 to h:1 h:1,ttl=9", "output 2", "same destination as an earlier output"),
        ("239.1.1.1%eth0:1 to h:1 239.1.1.1%eth0:1,ttl=9", "output 2", "is the rule's own input"),
        ("10.9.9.9@239.1.1.1%eth0:1 to 239.1.1.1%eth0:1", "output 1", "is the rule's own input"),
        ("10.0.0.1%eth1:1 to 10.0.0.1:1", "output 1", "is the rule's own input"),
        ("ff01::1%eth0:1 to h:1", "input, group", "interface-local scope"),
        ("239.1.1.1%eth0:0 to h:1", "input, port", "0 is out of range"),
        ("239.1.1.1%eth0:1 to h:70000", "output 1, port", "70000 is out of range"),
    ],
)
def test_each_problem_names_its_field_and_the_fix(rule: str, field: str, message: str) -> None:
    """What this host cannot do, and what to do instead."""
    (problem,) = problems(rule.replace("to h:", "to 192.0.2.7:").replace(" h:", " 192.0.2.7:"))
    assert problem.field == f"rule 1, {field}"
    assert message in problem.message


def test_a_host_without_a_usable_interface() -> None:
    """The message says what a usable one needs."""
    with pytest.raises(RuleError, match="an interface that is up and has multicast enabled"):
        resolve(["239.1.1.1:1 to 192.0.2.7:1"], [DOWN, TUN], ingress="packet")


def test_long_lists_are_truncated() -> None:
    """So that messages stay readable on a host with many interfaces."""
    many = [replace(ETH0, name=f"veth{number}", addresses=()) for number in range(500)]
    with pytest.raises(RuleError, match="veth11 and 488 more") as caught:
        resolve(["239.1.1.1%wlan:1 to 192.0.2.7:1"], many, ingress="packet")
    assert len(str(caught.value)) < 300


def test_all_problems_of_all_rules_are_reported_at_once() -> None:
    """Those of the text, of the host and between rules."""
    found = problems(
        "239.1.1.1%wlan:1 to 239.2.0.1%down:1 ff3e::2%v4only:1,source=2001:db8::9",
        PLAIN + ",ttl=0",
        PLAIN,
        PLAIN,
        "10.9.9.9:1 to 239.2.0.1:1",
    )
    assert [problem.field for problem in found] == [
        "rule 1, input, interface",
        "rule 1, output 1, interface",
        "rule 1, output 2, source",
        "rule 2, output 1, ttl",
        "rule 4",
        "rule 5, input, group",
        "rule 5, output 1, interface",
    ]


def test_the_udp_ingress_refuses_vlan_rules() -> None:
    """A socket cannot see tags, so a rule that asks for one needs the other ingress."""
    rule = "239.1.1.1%eth0:1,vlan=7 to 192.0.2.7:1"
    (problem,) = problems(rule, ingress="udp")
    assert problem.field == "rule 1, input, vlan"
    assert "the ingress 'udp' cannot see VLAN tags" in problem.message
    assert check(rule, ingress="packet").rules


@pytest.mark.parametrize(
    ("rule", "field", "message"),
    [
        ("224.0.0.5%eth0:1 to 192.0.2.7:1", "input, group", "224.0.0.5 is link-local control"),
        ("239.1.1.1%eth0:1 to 224.0.0.9%eth1:1", "output 1, address", "link-local control"),
        ("224.0.1.129%eth0:319 to 192.0.2.7:1", "input, group", "is PTP (IEEE 1588)"),
        ("224.0.1.132%eth0:319 to 192.0.2.7:1", "input, group", "is PTP (IEEE 1588)"),
        ("224.0.0.107%eth0:319 to 192.0.2.7:1", "input, group", "is PTP (IEEE 1588)"),
        ("239.1.1.1%eth0:1 to 224.0.1.129%eth1:319", "output 1, address", "is PTP"),
        ("232.1.1.1%eth0:1 to 192.0.2.7:1", "input, group", "write SOURCE@232.1.1.1"),
        ("ff3e::1%eth0:1 to 192.0.2.7:1", "input, group", "write SOURCE@ff3e::1"),
    ],
)
def test_unusual_groups_are_a_warning(rule: str, field: str, message: str) -> None:
    """They are accepted."""
    (warning,) = check(rule).warnings
    assert warning.startswith(f"rule 1, {field}: ")
    assert message in warning


@pytest.mark.parametrize(
    "rule",
    [
        PLAIN,
        "10.0.0.5@232.1.1.1%eth0:1 to 192.0.2.7:1",
        "2001:db8::5@ff3e::1%eth0:1 to 192.0.2.7:1",
        "ff3e:40:2001:db8::1%eth0:1 to 192.0.2.7:1",
        "239.1.1.1%eth0:1 to 232.1.1.1%eth1:1",
        "224.0.1.133%eth0:1 to 192.0.2.7:1",
    ],
)
def test_ordinary_rules_have_no_warning(rule: str) -> None:
    """A warning that is always present would warn of nothing."""
    assert check(rule).warnings == ()


def test_ipv6() -> None:
    """Groups, hosts and sources resolve like IPv4 ones."""
    (rule,) = check("2001:db8::5@ff3e::1%eth0:1 to ff3e::2%eth1:1 [2001:db8::7]:7").rules
    assert rule.input.group == IPv6Address("ff3e::1")
    assert [output.ttl for output in rule.outputs] == [1, 64]


@pytest.mark.parametrize(
    ("rule", "field", "message"),
    [
        ("239.1.1.1%ehto0:1 to h:1", "input, interface", "did you mean 'eth0'"),
        ("239.1.1.1%down:1 to h:1", "input, interface", "down is down"),
        ("10.0.3.9%wlan:1 to h:1", "input, interface", "there is no interface 'wlan'"),
        ("239.1.1.1%eth0:1 to 239.2.0.1%wlan:1", "output 1, interface", "no interface 'wlan'"),
        ("239.1.1.1%eth0:1 to 239.2.0.1%bare:1", "output 1, interface", "has no IPv4 address"),
        ("239.1.1.1%eth0:1 to h:1,source=10.9.9.9", "output 1, source", "is not an address"),
        ("10.9.9.9:1 to h:1", "input, group", "nor an address of this host"),
        ("10.9.9.9%eth0:1 to h:1", "input, group", "nor an address of this host"),
    ],
)
def test_rules_wait_for_missing_interfaces(rule: str, field: str, message: str) -> None:
    """In a relay that is a warning; the rule refers to the interface by name."""
    rules = RuleSet("packet")
    plan = rules.plan(HOST, add=[rule.replace("to h:", "to 192.0.2.7:")])
    (warning,) = plan.warnings
    assert warning.startswith(f"rule 1, {field}: ")
    assert message in warning
    assert warning.endswith("; the rule waits for it")
    (resolved,) = plan.resolved
    for end in (resolved.input, resolved.outputs[0]):
        assert (end.ifindex == 0) == (end.interface in ("ehto0", "wlan", ""))
    rules.commit(plan)
    assert rules.plan(HOST, add=[PLAIN]).warnings == ()


@pytest.mark.parametrize(
    "rule",
    [
        "239.1.1.1:1 to 192.0.2.7:1",
        "239.1.1.1%tun0:1 to 192.0.2.7:1",
    ],
)
def test_permanent_mistakes_are_refused(rule: str) -> None:
    """Those that no new interface could correct, even where rules wait."""
    with pytest.raises(RuleError):
        RuleSet("packet").plan(HOST, add=[rule])


def test_the_same_rule_on_a_new_index_is_the_same() -> None:
    """A recreated interface changes no rule, so that replacing rules keeps counters."""
    before = check(PLAIN).rules
    anew = [replace(each, index=each.index + 100) for each in HOST]
    assert resolve([PLAIN], anew, ingress="packet").rules == before
