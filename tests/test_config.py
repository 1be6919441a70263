"""Rules against a host, and against each other, with interfaces that exist only here."""

import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcr.config import Ingress, Resolution, RuleSet, resolve
from mcr.errors import Problem, RuleError
from mcr.fields import Address
from mcr.host import Host
from mcr.lanes import Lane, Listeners
from mcr.rules import Input, Output, Rule


@dataclass(frozen=True)
class FakeInterface:
    """An interface as the native module would list it."""

    name: str
    index: int
    addresses: tuple[Address, ...] = ()
    up: bool = True
    multicast: bool = True
    loopback: bool = False
    broadcasts: tuple[IPv4Address, ...] = ()


def addresses(*texts: str) -> tuple[Address, ...]:
    """Addresses from text."""
    return tuple(ip_address(text) for text in texts)


LO = FakeInterface("lo", 1, addresses("127.0.0.1", "::1"), multicast=False, loopback=True)
ETH0 = FakeInterface("eth0", 2, addresses("10.0.0.1", "fe80::1"))
ETH1 = FakeInterface("eth1", 3, addresses("10.0.1.1", "2001:db8::1"))
V4_ONLY = FakeInterface("v4only", 4, addresses("10.0.2.1"))
BARE = FakeInterface("bare", 5)
DOWN = FakeInterface("down", 6, addresses("10.0.3.1"), up=False)
TUN = FakeInterface("tun0", 7, addresses("10.0.4.1"), multicast=False)
HOST = (LO, ETH0, ETH1, V4_ONLY, BARE, DOWN, TUN)
PLAIN = "239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001"
BACK = "239.2.0.1%eth1:6001 to 239.1.1.1%eth0:5001"


def check(*rules: Rule | str, ingress: Ingress = "packet") -> Resolution:
    """The rules resolved on the made-up host."""
    return resolve(rules, HOST, ingress=ingress)


def problems(*rules: Rule | str, ingress: Ingress = "packet") -> list[Problem]:
    """Everything that is wrong with the rules."""
    with pytest.raises(RuleError) as caught:
        check(*rules, ingress=ingress)
    return list(caught.value.problems)


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Answers name look-ups from a table, so that no test asks a server."""
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
    """The native core gets interface numbers, the effective TTL and nothing unsaid."""
    (rule,) = check(PLAIN + " 192.0.2.7:7000,ttl=8,dscp=46,source=10.0.1.1,sport=9").rules
    taken, (group, host) = rule.input, rule.outputs
    assert (taken.group, taken.port) == (IPv4Address("239.1.1.1"), 5001)
    assert (taken.interface, taken.ifindex, taken.vlan, taken.sources) == ("eth0", 2, 0, ())
    assert (group.interface, group.ifindex, group.ttl, group.dscp) == ("eth1", 3, 1, 0)
    assert (group.source, group.source_port, group.loop) == (None, None, True)
    assert (host.interface, host.ifindex, host.ttl, host.dscp) == ("", 0, 8, 46)
    assert (host.source, host.source_port) == (IPv4Address("10.0.1.1"), 9)
    assert host.priority is None


def test_what_is_kept_reaches_the_core_as_it_was_said() -> None:
    """The words go down beside values, and a plain output covers one address and port."""
    (rule,) = check(PLAIN + ",ttl=decrement,dscp=keep,source=keep,sport=keep").rules
    (output,) = rule.outputs
    assert (output.ttl, output.dscp) == ("decrement", "keep")
    assert (output.source, output.source_port) == ("keep", "keep")
    assert (output.address_bits, output.port, output.last_port) == (0, 6001, 6001)


def test_a_name_is_looked_up_for_the_kept_source() -> None:
    """A copy that keeps its sender's address goes to a host of the same IP version."""
    (rule,) = check("239.1.1.1%eth0:1 to studio.example:1,source=keep").rules
    assert rule.outputs[0].address == IPv4Address("192.0.2.7")
    (problem,) = problems("239.1.1.1%eth0:1 to six.example:1,source=keep")
    assert "does not resolve to an IPv4 address, as its source is one" in problem.message


def test_a_kept_dscp_leaves_ipv6_its_priority() -> None:
    """Only IPv4 derives the priority of a copy from its DSCP."""
    assert check("239.1.1.1%eth0:1 to ff3e::2%eth1:1,dscp=keep,priority=3").rules


def test_rules_are_resolved_in_the_order_given() -> None:
    """Values and text can be mixed, and the order stays."""
    other = Rule(Input("239.1.1.2", 5001, interface="eth0"), [Output("192.0.2.7", 7000)])
    resolved = check(other, PLAIN).rules
    assert [str(rule.input.group) for rule in resolved] == ["239.1.1.2", "239.1.1.1"]


def test_vlan_and_sources_reach_the_core() -> None:
    """A tag and the senders are handed on as they are."""
    (rule,) = check("10.9.9.1+10.9.9.2@239.1.1.1%eth0:1,vlan=7 to 192.0.2.7:1").rules
    assert rule.input.vlan == 7
    assert rule.input.sources == addresses("10.9.9.1", "10.9.9.2")


def test_an_input_interface_needs_no_address() -> None:
    """Joining works without an address, so an input may do without one."""
    assert check("239.1.1.1%bare:1 to 192.0.2.7:1").rules


def test_loopback_needs_no_multicast_flag() -> None:
    """The loopback joins and sends without the flag that other interfaces need."""
    assert check("239.1.1.1%lo:1 to 239.2.0.1%lo:2 ff3e::2%lo:2").rules


def test_a_local_address_is_taken_on_its_own_interface() -> None:
    """An input that is no group finds its interface by itself, also in 127.0.0.0/8."""
    resolved = check("10.0.1.1:1 to 192.0.2.7:1", "127.0.0.9:1 to 192.0.2.7:1").rules
    assert [rule.input.interface for rule in resolved] == ["eth1", "lo"]


def test_a_local_address_may_be_taken_on_another_interface() -> None:
    """A host answers for its addresses on every interface, so the one named is taken."""
    (rule,) = check("10.0.1.1%eth0:1 to 192.0.2.7:1").rules
    assert rule.input.interface == "eth0"


def test_an_address_that_several_interfaces_have_needs_one_named() -> None:
    """A link-local address on two interfaces is ambiguous."""
    twin = replace(ETH1, addresses=addresses("fe80::1"))
    with pytest.raises(RuleError) as caught:
        resolve(["[fe80::1]:1 to 192.0.2.7:1"], [ETH0, twin], ingress="packet")
    assert caught.value.problems == (
        Problem("rule 1, input, interface", "several interfaces have fe80::1; name eth0, eth1"),
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
        ("239.1.1.1%down:1 to h:1", "input, interface", "down is down; 'ip link set down up'"),
        ("239.1.1.1%eth0:1 to 239.2.0.1%down:1", "output 1, interface", "down is down"),
        ("10.0.3.1:1 to h:1", "input, group", "down is down"),
        ("239.1.1.1%tun0:1 to h:1", "input, interface", "'ip link set tun0 multicast on'"),
        ("239.1.1.1%eth0:1 to 239.2.0.1%tun0:1", "output 1, interface", "does no multicast"),
        (
            "239.1.1.1%eth0:1 to ff3e::2%v4only:1",
            "output 1, interface",
            "v4only has no IPv6 address",
        ),
        ("239.1.1.1%eth0:1 to 239.2.0.1%bare:1", "output 1, interface", "bare has no IPv4 address"),
        ("239.1.1.1%eth0:1 to 192.0.2.7%bare:1", "output 1, interface", "bare has no IPv4 address"),
        ("10.9.9.9:1 to h:1", "input, group", "10.9.9.9 is neither multicast nor an address of"),
        ("10.9.9.9%eth0:1 to h:1", "input, group", "this host has 127.0.0.1, ::1, 10.0.0.1"),
        (
            "239.1.1.1%eth0:1 to h:1,source=10.9.9.9",
            "output 1, source",
            "is not an address of this",
        ),
        (
            "239.1.1.1%eth0:1 to h:1,dscp=keep,priority=3",
            "output 1, priority",
            "cannot be chosen with dscp=keep in IPv4",
        ),
        ("239.1.1.1%eth0:1 to nohost:1", "output 1, address", "the host 'nohost' does not resolve"),
        (
            "239.1.1.1%eth0:1 to six.example:1,source=10.0.0.1",
            "output 1, address",
            "'six.example' does not resolve to an IPv4 address, as its source is one: Name or",
        ),
        ("239.1.1.1%eth0:1 to h:1 h:1,ttl=9", "output 2", "same place as an output before it"),
        ("239.1.1.1%eth0:1 to h:1 239.1.1.1%eth0:1,ttl=9", "output 2", "is the rule's own input"),
        ("10.9.9.9@239.1.1.1%eth0:1 to 239.1.1.1%eth0:1", "output 1", "is the rule's own input"),
        ("10.0.0.1%eth1:1 to 10.0.0.1:1", "output 1", "is the rule's own input"),
        ("ff01::1%eth0:1 to h:1", "input, group", "interface-local scope"),
        ("239.1.1.1%eth0:0 to h:1", "input, port", "0 is out of range"),
        ("239.1.1.1%eth0:1 to h:70000", "output 1, port", "70000 is out of range"),
    ],
)
def test_each_misfit_names_its_field_and_the_way_out(rule: str, field: str, message: str) -> None:
    """What this host cannot do is said where it is asked for, with what to do instead."""
    (problem,) = problems(rule.replace("to h:", "to 192.0.2.7:").replace(" h:", " 192.0.2.7:"))
    assert problem.field == f"rule 1, {field}"
    assert message in problem.message


def test_a_host_without_a_usable_interface_is_told_so() -> None:
    """Where there is no candidate, the list says what one would be."""
    with pytest.raises(RuleError, match="an interface that is up and does multicast"):
        resolve(["239.1.1.1:1 to 192.0.2.7:1"], [DOWN, TUN], ingress="packet")


def test_long_lists_are_cut() -> None:
    """A host with many interfaces gets a message that can be read."""
    many = [replace(ETH0, name=f"veth{number}", addresses=()) for number in range(500)]
    with pytest.raises(RuleError, match="veth11 and 488 more") as caught:
        resolve(["239.1.1.1%wlan:1 to 192.0.2.7:1"], many, ingress="packet")
    assert len(str(caught.value)) < 300


def test_all_problems_of_all_rules_come_at_once() -> None:
    """One attempt shows what is wrong with the text, with the host and between the rules."""
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
    ("rules", "field", "message"),
    [
        ((PLAIN, PLAIN), "rule 2", "is the same as rule 1"),
        (
            (PLAIN, PLAIN.replace(":5001", ":5001,name=a")),
            "rule 2",
            "is the same as rule 1",
        ),
        (
            (PLAIN, PLAIN + ",ttl=9"),
            "rule 2, output 1",
            "rule 1 already sends the same input there",
        ),
        ((PLAIN, PLAIN + " 192.0.2.7:1"), "rule 2, output 1", "would arrive twice"),
        (
            (
                "10.9.9.1+10.9.9.2@" + PLAIN,
                "10.9.9.2+10.9.9.3@" + PLAIN,
            ),
            "rule 2, output 1",
            "would arrive twice",
        ),
        (
            (
                "239.1.1.1%eth0:1,name=a to 192.0.2.7:1",
                "239.1.1.2%eth0:1,name=a to 192.0.2.7:1",
            ),
            "rule 2, name",
            "'a' is the name of rule 1; choose another",
        ),
        ((PLAIN, BACK), "rule 1, output 1", "makes a loop: its copies come back by way of rule 2"),
        (
            (
                PLAIN,
                "239.2.0.1%eth1:6001 to 192.0.2.7:1 239.3.0.1%eth0:1",
                "239.3.0.1%eth0:1 to 239.1.1.1%eth0:5001",
            ),
            "rule 1, output 1",
            "by way of rule 2, rule 3",
        ),
        (
            ("239.1.1.1%eth0:1 to 10.0.1.1:7", "10.0.1.1:7 to 239.1.1.1%eth0:1"),
            "rule 1, output 1",
            "by way of rule 2",
        ),
        (
            ("239.1.1.1%eth0:1 to 127.0.0.9:7", "127.0.0.9:7 to 239.1.1.1%eth0:1"),
            "rule 1, output 1",
            "by way of rule 2",
        ),
        (
            ("10.0.0.1@" + PLAIN, "10.0.1.1@" + BACK),
            "rule 1, output 1",
            "makes a loop",
        ),
        (
            ("10.9.9.1@" + PLAIN + ",source=keep", "10.9.9.1@" + BACK + ",source=keep"),
            "rule 1, output 1",
            "makes a loop",
        ),
        (
            (PLAIN + ",source=keep", "10.9.9.1@" + BACK + ",source=keep"),
            "rule 1, output 1",
            "makes a loop",
        ),
    ],
)
def test_rules_that_disturb_each_other_are_refused(
    rules: tuple[str, ...], field: str, message: str
) -> None:
    """Duplicates and loops are found across rules, and name the other rule."""
    (problem,) = problems(*rules)
    assert problem.field == field
    assert message in problem.message


@pytest.mark.parametrize(
    "rules",
    [
        (PLAIN, "239.1.1.1%eth0:5001 to 239.2.0.2%eth1:6001"),
        (PLAIN, "239.1.1.2%eth0:5001 to 239.2.0.1%eth1:6001"),
        (PLAIN, "10.9.9.9@" + PLAIN),
        (PLAIN, "239.1.1.1%eth0:5001,vlan=7 to 239.2.0.1%eth1:6001"),
        (PLAIN, "239.2.0.1%eth0:6001 to 239.1.1.1%eth1:5001"),
        (PLAIN, "239.2.0.1%eth1:6002 to 239.1.1.1%eth0:5001"),
        ("10.9.9.1@" + PLAIN, "10.9.9.2@" + BACK),
        ("10.0.0.1@" + PLAIN + ",source=10.0.0.1", "10.0.1.1@" + BACK),
        ("10.9.9.1@" + PLAIN + ",source=keep", "10.0.1.1@" + BACK),
        (PLAIN, "239.2.0.1%eth1:6001,vlan=7 to 239.1.1.1%eth0:5001"),
        ("239.1.1.1%eth0:1,vlan=7 to 239.1.1.1%eth0:1",),
        ("239.1.1.1%eth0:1 to 192.0.2.7:1", "239.1.1.2%eth0:1 to 192.0.2.7:1"),
    ],
)
def test_rules_that_only_look_alike_are_taken(rules: tuple[str, ...]) -> None:
    """Rules that differ where it matters live together; senders that are not us make no loop."""
    assert len(check(*rules).rules) == len(rules)


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
def test_unusual_groups_are_taken_with_a_warning(rule: str, field: str, message: str) -> None:
    """What is seldom meant is allowed, and said."""
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
def test_ordinary_rules_bring_no_warning(rule: str) -> None:
    """A warning that is always there would warn of nothing."""
    assert check(rule).warnings == ()


def running(*rules: str) -> RuleSet:
    """A rule set in which these rules run."""
    rule_set = RuleSet("packet")
    rule_set.commit(rule_set.plan(HOST, add=rules))
    return rule_set


def refused(rule_set: RuleSet, *add: str, remove: tuple[str, ...] = ()) -> list[Problem]:
    """The problems of a change to running rules, which must leave them as they are."""
    before = rule_set.rules
    with pytest.raises(RuleError) as caught:
        rule_set.plan(HOST, remove=remove, add=add)
    assert rule_set.rules == before
    return list(caught.value.problems)


def test_a_plan_changes_nothing_until_it_is_committed() -> None:
    """Planning is a dry run."""
    rule_set = running(PLAIN)
    plan = rule_set.plan(
        HOST, remove=[rule_set.rules[0].id], add=["239.1.1.2%eth0:1 to 192.0.2.7:1"]
    )
    assert [str(rule) for rule in rule_set.rules] == [PLAIN]
    rule_set.commit(plan)
    assert rule_set.rules == plan.added
    assert len(rule_set) == 1
    assert plan.added[0].id in rule_set
    assert plan.removed[0] not in rule_set
    assert len(plan.resolved) == 1


def test_a_plan_from_before_another_change_is_refused() -> None:
    """Two changes planned at once cannot both be made."""
    rule_set = running()
    plans = [rule_set.plan(HOST, add=[PLAIN]), rule_set.plan(HOST, add=[BACK])]
    rule_set.commit(plans[0])
    with pytest.raises(ValueError, match="plan anew"):
        rule_set.commit(plans[1])
    assert [str(rule) for rule in rule_set.rules] == [PLAIN]


def test_added_rules_are_judged_with_the_running_ones() -> None:
    """A new rule may not double, rename or loop with one that runs."""
    rule_set = running("239.1.1.1%eth0:5001,name=a to 239.2.0.1%eth1:6001")
    (same,) = refused(rule_set, PLAIN)
    assert same == Problem("rule 1", "is the same as the running rule 'a'; leave one out")
    (twice,) = refused(rule_set, PLAIN + ",ttl=9")
    assert "the running rule 'a' already sends" in twice.message
    (name,) = refused(rule_set, "239.1.1.9%eth0:1,name=a to 192.0.2.7:1")
    assert name.field == "rule 1, name"
    (loop,) = refused(rule_set, BACK)
    assert loop.field == "rule 1, output 1"
    assert "by way of the running rule 'a'" in loop.message


def test_a_removed_rule_is_gone_when_the_added_are_judged() -> None:
    """A rule can be replaced by its like, its reverse, or one of its name, in one change."""
    for successor in (PLAIN, PLAIN + ",ttl=9", BACK, PLAIN.replace(":5001", ":5001,name=a")):
        rule_set = running(PLAIN.replace(":5001", ":5001,name=a"))
        plan = rule_set.plan(HOST, remove=[rule_set.rules[0].id], add=[successor])
        rule_set.commit(plan)
        assert [str(rule) for rule in rule_set.rules] == [successor]


def test_removing_leaves_no_trace() -> None:
    """After a removal everything that the rule held is free again."""
    rule_set = running(PLAIN, "239.1.1.1%eth0:5001,name=a to 192.0.2.7:1")
    for rule in rule_set.rules:
        rule_set.commit(rule_set.plan(HOST, remove=[rule.id]))
    assert rule_set.rules == ()
    assert not rule_set._claims
    assert not rule_set._listeners


def test_removing_an_unknown_rule_is_refused() -> None:
    """An id that no rule has is named."""
    (problem,) = refused(running(PLAIN), remove=("0123456789ab",))
    assert problem == Problem("remove", "no rule with the id '0123456789ab' is running")


def test_a_loop_among_running_rules_is_not_blamed_on_others() -> None:
    """An address that came later can close a loop of running rules; a new rule is not its cause."""
    rule_set = running("10.0.0.1@" + PLAIN, "10.0.9.9@" + BACK)
    later = [
        replace(ETH1, addresses=addresses("10.0.9.9")) if each is ETH1 else each for each in HOST
    ]
    feeder = "239.7.7.7%eth0:1 to 239.1.1.1%eth0:5001"
    assert rule_set.plan(later, add=[feeder]).added


def test_blocks_and_ranges_reach_the_core_as_their_first_and_how_far_they_go() -> None:
    """The core gets the first address and port, the bits that vary and the last port."""
    text = "239.1.0.0/16%eth0:5000-5099 to ff3e::1:0/112%eth1:6000-6099 239.2.0.1%eth1:6001"
    (rule,) = check(text).rules
    taken, (mapped, single) = rule.input, rule.outputs
    assert (taken.group, taken.group_bits) == (IPv4Address("239.1.0.0"), 16)
    assert (taken.port, taken.last_port, taken.ports) == (5000, 5099, "5000-5099")
    assert str(taken.block) == "239.1.0.0/16"
    assert (mapped.address, mapped.address_bits) == (IPv6Address("ff3e::1:0"), 16)
    assert (mapped.port, mapped.last_port, mapped.ttl) == (6000, 6099, 1)
    assert (single.address_bits, single.port, single.last_port) == (0, 6001, 6001)


@pytest.mark.parametrize(
    ("group", "join", "warning"),
    [
        ("239.1.1.1", "each", ""),
        ("239.1.0.0/20", "each", ""),
        ("239.1.0.0/20%eth0:1,join=none", "none", "input, join: no group is joined: a switch that"),
        (
            "239.1.0.0/19",
            "none",
            "input, join: 239.1.0.0/19 has 8192 groups, more than the 4096 that a rule joins, so no"
            " group is joined: a switch that snoops",
        ),
        ("239.1.1.1%eth0:1,join=none", "none", "no group is joined"),
    ],
)
def test_up_to_4096_groups_are_joined(group: str, join: str, warning: str) -> None:
    """Beyond, no group is joined, and a warning says what that means."""
    text = f"{group} to 192.0.2.7:1" if "%" in group else f"{group}%eth0:1 to 192.0.2.7:1"
    resolution = check(text)
    assert resolution.rules[0].input.join == join
    assert warning in "".join(resolution.warnings)
    assert bool(warning) == bool(resolution.warnings)


@pytest.mark.parametrize(
    ("taken", "field", "message"),
    [
        ("239.1.1.1%eth0:1,join=none", "input, join", "the ingress 'udp' hears only what is"),
        (
            "239.1.0.0/24%eth0:1-5",
            "input",
            "239.1.0.0/24 and port 1-5 need 1280 sockets on the ingress 'udp', and a rule has at"
            " most 1024; use the ingress 'packet'",
        ),
    ],
)
def test_the_udp_ingress_has_a_socket_for_each(taken: str, field: str, message: str) -> None:
    """What needs more sockets than a rule may have, or none, needs the other ingress."""
    (problem,) = problems(f"{taken} to 192.0.2.7:1", ingress="udp")
    assert problem.field == f"rule 1, {field}"
    assert message in problem.message
    assert check(f"{taken} to 192.0.2.7:1").rules
    assert check("239.1.0.0/24%eth0:1-4 to 192.0.2.7:1", ingress="udp").rules


def test_receivers_and_senders_have_one_address_and_one_port() -> None:
    """Blocks and ranges are for rules."""
    host = Host(HOST, "udp")
    with pytest.raises(RuleError) as caught:
        host.resolve_input(Input("239.1.0.0/24", range(1, 5), interface="eth0"))
    assert caught.value.problems == (
        Problem("group", "239.1.0.0/24 is a block, which only rules take; write one address"),
        Problem("port", "1-4 are several, which only rules take; write one"),
    )
    with pytest.raises(RuleError, match=r"address: 239\.2\.0\.0/24 is a block"):
        host.resolve_output(Output("239.2.0.0/24", 1, interface="eth1"))


def test_more_ports_of_this_host_than_are_kept_open_are_warned_of() -> None:
    """Beyond the limit the host answers that nobody is there, though the relay takes it."""
    assert check("10.0.0.1:1-1024 to 192.0.2.7:1").warnings == ()
    (warning,) = check("10.0.0.1:1-1025 to 192.0.2.7:1").warnings
    assert "1025 ports are more than the 1024 that mcr keeps open" in warning


@pytest.mark.parametrize(
    ("taken", "word"),
    [
        ("232.1.0.0/16%eth0:1", "232.1.0.0/16 is source-specific"),
        ("ff3e::/96%eth0:1", "ff3e::/96 is source-specific"),
        ("224.0.0.0/16%eth0:1,join=none", "224.0.0.0/16 is link-local control traffic"),
    ],
)
def test_blocks_are_warned_of_like_groups(taken: str, word: str) -> None:
    """What is true of all groups of a block, or of some that should stay where they are."""
    assert word in "".join(check(f"{taken} to 192.0.2.7:1").warnings)


A16 = "239.1.0.0/16%eth0:5000-5099"


@pytest.mark.parametrize(
    "rules",
    [
        (f"{A16} to 192.0.2.7:1", f"{A16} to 192.0.2.8:1"),
        (f"{A16} to 192.0.2.7:1", "239.1.1.1%eth0:5000-5099 to 192.0.2.7:1"),
        (f"{A16} to 192.0.2.7:1", "239.1.0.0/17%eth0:5000-5099 to 192.0.2.7:1"),
        (f"{A16} to 192.0.2.7:1", "239.1.0.0/16%eth0:5050 to 192.0.2.7:1"),
        (f"{A16} to 192.0.2.7:1", "239.1.0.0/16%eth0:5050-5148 to 192.0.2.7:1"),
        (f"{A16} to 192.0.2.7:1", "239.1.0.0/16%eth0:5100-5199 to 192.0.2.7:1"),
        (f"{A16} to 192.0.2.7:1", "239.2.0.0/16%eth0:5000-5099 to 192.0.2.7:1"),
        (f"{A16} to 192.0.2.7:1", f"10.9.9.9@{A16} to 192.0.2.7:1"),
        (f"{A16} to h:6000-6099", "239.1.0.0/16%eth0:5050-5149 to h:6000-6099"),
        (f"{A16} to 239.1.0.0/16%eth1:5000-5099",),
        (f"{A16} to 239.1.0.0/16%eth0:5100-5199",),
        (f"{A16} to 239.2.0.0/16%eth0:5000-5099", "239.3.0.0/16%eth0:1 to 239.1.0.0/16%eth0:5"),
        (f"{A16} to ff3e::1:0/112%eth0:1", "ff3e::2:0/112%eth0:1 to 239.1.0.0/16%eth0:5001"),
    ],
)
def test_rules_may_overlap(rules: tuple[str, ...]) -> None:
    """What goes elsewhere, is more specific or only lies near is fine."""
    assert check(*(rule.replace(" h:", " 192.0.2.7:") for rule in rules)).rules


@pytest.mark.parametrize(
    ("rules", "field", "message"),
    [
        ((f"{A16} to h:1", f"{A16} to h:1,ttl=9"), "rule 2, output 1", "would arrive twice"),
        (
            (f"{A16} to h:1", "239.1.0.0/16%eth0:5099-5198 to h:1"),
            "rule 2, output 1",
            "rule 1 already sends the same input there",
        ),
        (
            ("239.1.0.0/16%eth0:5099-5198 to h:1", f"{A16} to h:1"),
            "rule 2, output 1",
            "rule 1 already sends the same input there",
        ),
        (
            (f"{A16} to h:6000-6099", "239.1.0.0/16%eth0:5050-5149 to h:6050-6149"),
            "rule 2, output 1",
            "would arrive twice",
        ),
        ((f"{A16} to {A16}",), "rule 1, output 1", "is the rule's own input"),
        ((f"{A16} to 239.1.7.7%eth0:5042",), "rule 1, output 1", "is the rule's own input"),
        (
            ("239.1.1.1%eth0:5000-5099 to 239.1.1.1%eth0:5099-5198",),
            "rule 1, output 1",
            "is the rule's own input",
        ),
        (
            (f"{A16} to 239.2.0.0/16%eth1:1", "239.2.7.7%eth1:1 to 239.1.7.7%eth0:5005"),
            "rule 1, output 1",
            "makes a loop: its copies come back by way of rule 2",
        ),
        (
            ("239.2.7.7%eth1:1 to 239.1.7.7%eth0:5005", f"{A16} to 239.2.0.0/16%eth1:1"),
            "rule 1, output 1",
            "makes a loop: its copies come back by way of rule 2",
        ),
        (
            (
                f"{A16} to 239.2.0.0/16%eth1:1-100",
                "239.2.4.0/22%eth1:50-69 to ff3e::4:0/118%eth0:9",
                "ff3e::/64%eth0:1-9 to 239.1.9.9%eth0:5099",
            ),
            "rule 1, output 1",
            "by way of rule 2, rule 3",
        ),
        (
            ("239.1.1.1%eth0:1 to 10.0.1.1:70", "10.0.1.1:1-100 to 239.1.1.1%eth0:1"),
            "rule 1, output 1",
            "by way of rule 2",
        ),
    ],
)
def test_blocks_that_disturb_each_other_are_refused(
    rules: tuple[str, ...], field: str, message: str
) -> None:
    """Duplicates and loops are found in what blocks and ranges have in common."""
    (problem,) = problems(*(rule.replace(" h:", " 192.0.2.7:") for rule in rules))
    assert problem.field == field
    assert message in problem.message


def test_a_rule_for_a_block_finds_running_rules_inside_it() -> None:
    """Also a loop through a running rule is found, until that rule goes."""
    rule_set = running("239.2.7.7%eth1:1 to 239.1.7.7%eth0:5005")
    closing = f"{A16} to 239.2.0.0/16%eth1:1"
    with pytest.raises(RuleError, match="makes a loop"):
        rule_set.plan(HOST, add=[closing])
    assert rule_set.plan(HOST, remove=[rule_set.rules[0].id], add=[closing]).added
    rule_set.commit(rule_set.plan(HOST, add=["239.3.0.0/16%eth0:1-9 to 239.4.0.0/16%eth1:1-9"]))
    for rule in rule_set.rules:
        rule_set.commit(rule_set.plan(HOST, remove=[rule.id]))
    assert rule_set.plan(HOST, add=[closing]).added


LANES = st.builds(
    lambda low, bits, port, more, interface, source: Lane(
        IPv4Address(0xEF000000 | low >> bits << bits), bits, port, port + more, interface, source
    ),
    st.integers(0, 63),
    st.integers(0, 6),
    st.integers(1, 12),
    st.integers(0, 6),
    st.sampled_from(["eth0", "eth1"]),
    st.sampled_from([None, IPv4Address("10.0.0.1")]),
)


@given(st.lists(LANES, max_size=25), st.integers(0, 5), st.lists(LANES, min_size=1, max_size=8))
def test_listeners_are_those_whose_lanes_have_something_in_common(
    lanes: list[Lane], gone: int, asked: list[Lane]
) -> None:
    """Looking through the ordered lanes finds what counting every group and port does."""

    def members(lane: Lane) -> set[tuple[object, ...]]:
        first = int(lane.address)
        return {
            (group, port, lane.interface, lane.source)
            for group in range(first, first + 2**lane.bits)
            for port in range(lane.port, lane.last_port + 1)
        }

    listeners = Listeners()
    for number, lane in enumerate(lanes):
        listeners.add([lane], str(number))
    for number, lane in enumerate(lanes[:gone]):
        listeners.remove([lane], str(number))
    left = list(enumerate(lanes))[gone:]
    for lane in asked:
        expected = {str(number) for number, listened in left if members(listened) & members(lane)}
        found = list(listeners.at(lane))
        assert set(found) == expected
        assert len(found) == len(expected)
    for number, lane in left:
        listeners.remove([lane], str(number))
    assert not listeners


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12, unique=True))
def test_loops_are_found_exactly_where_the_graph_has_them(edges: list[tuple[int, int]]) -> None:
    """Rules over few groups are refused exactly if a plain search finds a way back."""
    rules = [f"239.1.1.{a}%eth0:1 to 239.1.1.{b}%eth0:1" for a, b in edges]
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


def calls_of(work: Callable[[], object]) -> int:
    """How many Python functions are called: the cost of work, the same on a busy machine."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def test_a_change_costs_work_for_itself_only() -> None:
    """One more rule beside 10 000 others costs what it costs beside ten."""
    costs = []
    for count in (10, 10_000):
        rules = [f"239.{n >> 8}.{n & 255}.1%eth0:5001 to 192.0.2.7:{n + 1}" for n in range(count)]
        rule_set = running(*rules)
        last = rule_set.rules[-1]

        def change(rule_set: RuleSet = rule_set, last: Rule = last) -> None:
            rule_set.commit(rule_set.plan(HOST, remove=[last.id], add=[PLAIN]))

        costs.append(calls_of(change))
    assert costs[1] < 1.1 * costs[0]  # a hash may collide


def test_many_rules_around_one_group_stay_cheap() -> None:
    """Twice the rules that feed a group and twice those that take it are no fourfold work."""
    costs = []
    for count in (200, 400):
        rules = [f"239.1.{n >> 8}.{n & 255}%eth0:1 to 239.99.9.9%eth0:1" for n in range(count)]
        rules += [f"239.99.9.9%eth0:1 to 192.0.2.7:{n + 1}" for n in range(count)]
        costs.append(calls_of(lambda rules=rules: check(*rules)))  # type: ignore[misc]
    assert costs[1] < 2.1 * costs[0]


def test_ipv6_goes_through() -> None:
    """IPv6 groups, hosts and sources resolve like IPv4 ones."""
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
    ],
)
def test_rules_that_follow_wait_for_what_is_missing(rule: str, field: str, message: str) -> None:
    """For a relay that is a warning; the rule goes down by the interface's name."""
    rules = RuleSet("packet")
    plan = rules.plan(HOST, add=[rule.replace("to h:", "to 192.0.2.7:")])
    (warning,) = plan.warnings
    assert warning.startswith(f"rule 1, {field}: ")
    assert message in warning
    assert warning.endswith("; mcr waits for it")
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
        "10.9.9.9:1 to 192.0.2.7:1",
        "10.9.9.9%eth0:1 to 192.0.2.7:1",
    ],
)
def test_plain_mistakes_are_not_waited_for(rule: str) -> None:
    """What no interface that comes could mend is refused, also where rules wait."""
    with pytest.raises(RuleError):
        RuleSet("packet").plan(HOST, add=[rule])


def test_the_same_rule_on_a_new_index_is_the_same() -> None:
    """An interface that was made anew changes no rule: replacing rules keeps its counters."""
    before = check(PLAIN).rules
    anew = [replace(each, index=each.index + 100) for each in HOST]
    assert resolve([PLAIN], anew, ingress="packet").rules == before
