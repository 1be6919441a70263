"""Which rule matches instead of which: by the index, and by comparing every datagram."""

from ipaddress import ip_address
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.fake_host import HOST, check

import mcr
from mcr.rules.fields import Address
from mcr.rules.precedence import Precedence, covers, rank
from mcr.rules.ruleset import RuleSet
from mcr.rules.spec import ResolvedInput

SENDERS = [ip_address(f"10.0.0.{host}") for host in (5, 6, 7)]
GROUPS = [ip_address("239.1.1.0") + number for number in range(4)]
PORTS = range(5001, 5004)
ANY = "239.1.1.1%eth0:5001 to 192.0.2.7:1"
NAMED = "10.0.0.5@239.1.1.1%eth0:5001,name=named to 192.0.2.7:2"
Datagram = tuple[Address, int, Address, int]


@st.composite
def inputs(draw: st.DrawFn) -> ResolvedInput:
    """An input among few groups, ports, senders and VLANs."""
    bits = draw(st.integers(0, 2))
    group = draw(st.sampled_from(GROUPS))
    first, last = sorted((draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS))))
    return ResolvedInput(
        group=ip_address(int(group) >> bits << bits),
        group_bits=bits,
        port=first,
        last_port=last,
        interface="eth0",
        device="eth0",
        ifindex=1,
        sources=tuple(sorted(draw(st.sets(st.sampled_from(SENDERS[:2]))))),
        vlan=draw(st.sampled_from([0, 7])),
        join="each",
    )


def datagrams(taken: ResolvedInput) -> set[Datagram]:
    """All datagrams for an input."""
    bits = taken.group_bits
    groups = [each for each in GROUPS if int(each) >> bits == int(taken.group) >> bits]
    ports = range(taken.port, taken.last_port + 1)
    return set(product(groups, ports, taken.sources or SENDERS, [taken.vlan]))


@given(st.lists(inputs(), max_size=6), inputs())
def test_the_index_finds_overlapping_rules(
    others: list[ResolvedInput], taken: ResolvedInput
) -> None:
    """All rules for one of its datagrams, by rank; also after others were removed."""
    index = Precedence()
    for number, other in enumerate((*others, *others)):
        index.add(str(number), other)
    for number, other in enumerate(others, len(others)):
        index.remove(str(number), other)
    meeting = {
        str(number): other
        for number, other in enumerate(others)
        if datagrams(other) & datagrams(taken)
    }
    before, behind = index.ranked_overlaps(taken)
    assert set(before) == {each for each, one in meeting.items() if rank(one) < rank(taken)}
    assert set(behind) == {each for each, one in meeting.items() if rank(one) > rank(taken)}
    for other in meeting.values():
        assert covers(taken, other) == (datagrams(other) <= datagrams(taken))


@pytest.mark.parametrize(
    ("rules", "warning"),
    [
        (
            (ANY, NAMED),
            "rule 1, input: gets none of the datagrams that it shares with rule 2, which is more"
            " specific (sources listed); if both should get them, name all outputs in the more"
            " specific rule",
        ),
        (
            (ANY.replace("5001", "5001-5002"), ANY),
            "rule 1, input: gets none of the datagrams that it shares with rule 2, which is more"
            " specific (fewer ports); if both",
        ),
        (
            ("239.1.1.0/24%eth0:5001 to 192.0.2.7:3", ANY, NAMED),
            "rule 1, input: gets none of the datagrams that it shares with rule 2 and 1 more, which"
            " are more specific (fewer groups); if both",
        ),
        (
            (
                "[ff3e::1%eth0]:5001 to [2001:db8::7]:1",
                "2001:db8::5@[ff3e::1%eth0]:5001 to [2001:db8::7]:2",
            ),
            "rule 1, input: gets none of the datagrams that it shares with rule 2",
        ),
    ],
)
def test_a_less_specific_rule_is_warned_of(rules: tuple[str, ...], warning: str) -> None:
    """Once, however many more specific rules there are."""
    said = [each for each in check(*rules).warnings if each.startswith("rule 1, input: gets none")]
    assert len(said) == 1
    assert said[0].startswith(warning)


@pytest.mark.parametrize(
    "other",
    [
        ANY.replace(":1", ":2"),  # a copy each
        NAMED.replace("5001", "5002"),
        NAMED.replace("239.1.1.1", "239.1.1.2"),
        NAMED.replace("eth0", "eth1"),
        NAMED.replace("5001", "5001,vlan=7"),
    ],
)
def test_disjoint_and_equal_inputs_have_no_warning(other: str) -> None:
    """Another port, group, interface or VLAN; or the very same input."""
    assert check(ANY, other).warnings == ()


def test_a_running_rule_is_named() -> None:
    """Whichever of the two is added later, until the other is removed."""
    running = RuleSet("packet")
    running.commit(running.plan(HOST, add=[ANY]))
    plan = running.plan(HOST, add=[NAMED])
    (warning,) = plan.warnings
    assert warning.startswith(
        "rule 1, input: is more specific (sources listed) than the running rule"
        f" {ANY!r}, which gets none of the datagrams that both are for; "
    )
    running.commit(plan)
    taken = plan.resolved[0].input
    assert [*running.before(taken)] == []
    ids = [mcr.Rule.parse(text).id for text in (ANY, NAMED)]
    replaced = running.plan(HOST, remove=[ids[0]], add=[ANY.replace(":1", ":3")])
    (warning,) = replaced.warnings
    assert "that it shares with the running rule 'named', which is more specific" in warning
    assert running.plan(HOST, remove=ids, add=[ANY]).warnings == ()
