"""Rules for blocks of groups and ranges of ports: how they are resolved and how they overlap."""

import re
from ipaddress import IPv4Address, IPv6Address

import pytest
from tests.support.fake_host import HOST, check, problems, running

from mcr.errors import Problem, RuleError
from mcr.rules import Input, Output
from mcr.rules.local_host import LocalHost
from mcr.rules.resolver import RuleResolver
from mcr.rules.ruleset import RuleSet

A16 = "239.1.0.0/16%eth0:5000-5099"


def test_blocks_and_ranges_are_resolved() -> None:
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
        ("239.1.0.0/21", "each", ""),
        (
            "239.1.0.0/20",
            "none",
            "input, join: 239.1.0.0/20 has 4096 groups, more than the 2048 that a rule joins by"
            " default, so no group is joined: a switch that snoops IGMP or MLD does not forward"
            " any, unless it forwards them statically; join=each joins them, if every switch on",
        ),
        (
            "239.1.0.0/20%eth0:1,join=each",
            "each",
            "with this rule 4096 groups are joined on eth0: a snooping Linux bridge",
        ),
        ("239.1.0.0/21%eth0:1,join=none", "none", "input, join: no group is joined: a switch that"),
        (
            "239.1.0.0/19",
            "none",
            "input, join: 239.1.0.0/19 has 8192 groups, more than the 2048 that a rule joins by"
            " default, so no group is joined: a switch that snoops",
        ),
        ("239.1.1.1%eth0:1,join=none", "none", "no group is joined"),
    ],
)
def test_up_to_2048_groups_are_joined(group: str, join: str, warning: str) -> None:
    """For more, no group is joined unless the rule says so, and a warning explains it."""
    text = f"{group} to 192.0.2.7:1" if "%" in group else f"{group}%eth0:1 to 192.0.2.7:1"
    resolution = check(text)
    assert resolution.rules[0].input.join == join
    assert warning in "".join(resolution.warnings)
    assert bool(warning) == bool(resolution.warnings)


def test_the_groups_of_all_rules_count_for_a_bridge_on_the_way() -> None:
    """One warning for many, another for too many; the same block counts once."""

    def said(rule_set: RuleSet, rule: str, *, remove: tuple[str, ...] = ()) -> list[str]:
        plan = rule_set.plan(HOST, add=[f"{rule} to 192.0.2.7:1"], remove=remove)
        rule_set.commit(plan)
        return [text for text in plan.warnings if "Linux bridge on the way" in text]

    rule_set = RuleSet("packet")
    assert said(rule_set, "239.1.0.0/21%eth0:1") == []
    assert said(rule_set, "239.1.0.0/21%eth0:2") == []
    assert said(rule_set, "239.2.0.0/21%eth1:1") == []
    (much,) = said(rule_set, "ff15::1%eth0:1")
    assert much.startswith("rule 1, input, join: with this rule 2049 groups are joined on eth0")
    assert said(rule_set, "239.3.0.0/22%eth0:1") == []
    (much,) = said(rule_set, "239.4.0.0/22%eth0:1")
    assert "4097 groups are joined" in much
    first, second, *_ = (rule.id for rule in rule_set.rules)
    assert said(rule_set, "239.5.0.0/24%eth0:1", remove=(first, second)) == []
    (much,) = said(rule_set, "239.1.0.0/21%eth0:1")
    assert "4353 groups are joined" in much
    assert said(rule_set, "239.6.0.0/20%lo:1,join=each") == []


@pytest.mark.parametrize(
    ("taken", "field", "message"),
    [
        (
            "239.1.1.1%eth0:1,join=none",
            "input, join",
            "the ingress 'udp' receives joined groups only",
        ),
        (
            "239.1.0.0/24%eth0:1-5",
            "input",
            "239.1.0.0/24 and port 1-5 need 1280 sockets on the ingress 'udp', but a rule has at"
            " most 1024; use the ingress 'packet'",
        ),
    ],
)
def test_the_udp_ingress_has_a_socket_for_each(taken: str, field: str, message: str) -> None:
    """A rule that needs too many sockets, or no joins, needs the ingress `packet`."""
    (problem,) = problems(f"{taken} to 192.0.2.7:1", ingress="udp")
    assert problem.field == f"rule 1, {field}"
    assert message in problem.message
    assert check(f"{taken} to 192.0.2.7:1").rules
    assert check("239.1.0.0/24%eth0:1-4 to 192.0.2.7:1", ingress="udp").rules


def test_receivers_and_senders_have_one_address_and_one_port() -> None:
    """Blocks and ranges are for rules."""
    resolver = RuleResolver(LocalHost(HOST, "udp"))
    with pytest.raises(RuleError) as caught:
        resolver.resolve_input(Input("239.1.0.0/24", range(1, 5), interface="eth0"))
    assert caught.value.problems == (
        Problem("group", "239.1.0.0/24 is a block, which only rules accept; write one address"),
        Problem("port", "1-4 is a range, which only rules accept; write one"),
    )
    with pytest.raises(RuleError, match=r"address: 239\.2\.0\.0/24 is a block"):
        resolver.resolve_output(Output("239.2.0.0/24", 1, interface="eth1"))


def test_too_many_ports_of_this_host_are_a_warning() -> None:
    """For ports beyond the limit the host answers "port unreachable"."""
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
def test_blocks_have_the_warnings_of_groups(taken: str, word: str) -> None:
    """If the warning is true of all groups of a block, or of some link-local ones."""
    assert word in "".join(check(f"{taken} to 192.0.2.7:1").warnings)


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
    """With other outputs, more specific ones, or neighbouring ones."""
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
            "makes a loop: its copies come back through rule 2",
        ),
        (
            ("239.2.7.7%eth1:1 to 239.1.7.7%eth0:5005", f"{A16} to 239.2.0.0/16%eth1:1"),
            "rule 1, output 1",
            "makes a loop: its copies come back through rule 2",
        ),
        (
            (
                f"{A16} to 239.2.0.0/16%eth1:1-100",
                "239.2.4.0/22%eth1:50-69 to ff3e::4:0/118%eth0:9",
                "ff3e::/64%eth0:1-9 to 239.1.9.9%eth0:5099",
            ),
            "rule 1, output 1",
            "through rule 2, rule 3",
        ),
        (
            ("239.1.1.1%eth0:1 to 10.0.1.1:70", "10.0.1.1:1-100 to 239.1.1.1%eth0:1"),
            "rule 1, output 1",
            "through rule 2",
        ),
    ],
)
def test_conflicting_blocks_are_refused(rules: tuple[str, ...], field: str, message: str) -> None:
    """Duplicates and loops are found in what blocks and ranges have in common.

    On the loopback interface, where the ingress `packet` hears what this host sends.
    """
    rules = tuple(rule.replace(" h:", " 192.0.2.7:") for rule in rules)
    (problem,) = problems(*(re.sub("%eth[01]", "%lo", rule) for rule in rules))
    assert problem.field == field
    assert message in problem.message


def test_a_rule_for_a_block_finds_running_rules_inside_it() -> None:
    """Even a loop through a running rule, until that rule is removed."""
    rule_set = running("239.2.7.7%eth1:1 to 239.1.1.7%eth0:5005")
    closing = "239.1.1.0/27%eth0:5000-5009 to 239.2.7.0/27%eth1:1"
    with pytest.raises(RuleError, match="makes a loop"):
        rule_set.plan(HOST, add=[closing])
    assert rule_set.plan(HOST, remove=[rule_set.rules[0].id], add=[closing]).added
    rule_set.commit(rule_set.plan(HOST, add=["239.3.0.0/27%eth0:1-9 to 239.4.0.0/27%eth1:1-9"]))
    for rule in rule_set.rules:
        rule_set.commit(rule_set.plan(HOST, remove=[rule.id]))
    assert rule_set.plan(HOST, add=[closing]).added
