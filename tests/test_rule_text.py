"""The grammar of rules: parsing, canonical text, and the message for each mistake."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.strategies import KERNEL_INTERFACES, inputs, merging_rules, outputs, rules

from mcr.errors import Problem, RuleError
from mcr.rules import Input, Output, Rule, endpoint_text, grammar, parse_rules

PAIR = "239.1.1.1%e:1 + 239.1.1.2%e:1"
PLAIN = "239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001"


def problems(text: str) -> dict[str, str]:
    """The problems of an invalid text, by field."""
    with pytest.raises(RuleError) as caught:
        Rule.parse(text)
    return {each.field: each.message for each in caught.value.problems}


def problems_if_any(text: str) -> tuple[Problem, ...]:
    """The problems of a text; an invalid one has at least one."""
    try:
        Rule.parse(text)
    except RuleError as error:
        return error.problems or (Problem("", "refused without a reason"),)
    return ()


@given(rules() | merging_rules())
def test_every_rule_survives_its_own_text(rule: Rule) -> None:
    """Parsing the text of a rule returns an equal rule, with the same id and name."""
    again = Rule.parse(str(rule))
    assert again == rule
    assert again.id == rule.id
    assert str(again) == str(rule)


@given(inputs(), outputs())
def test_every_endpoint_survives_its_own_text(taken: Input, output: Output) -> None:
    """The same for inputs and outputs alone."""
    assert Input.parse(str(taken)) == taken
    assert Output.parse(str(output)) == output


@given(rules(KERNEL_INTERFACES))
def test_strange_interface_names_are_never_misread(rule: Rule) -> None:
    """Text with a name that the grammar cannot express is refused."""
    try:
        again = Rule.parse(str(rule))
    except RuleError:
        names = [rule.input.interface, *(output.interface for output in rule.outputs)]
        assert any(set(name or "") & set(endpoint_text.GRAMMAR_CHARACTERS) for name in names)
    else:
        assert again == rule


@given(st.one_of(st.text(), st.text("to->-+,=@%:[]/. \t0123456789afeth", max_size=60)))
@example("]%:to[")
@example("[::]:1->[")
@example("to to to")
@example("1.2.3.4:" + "9" * 5000 + " to h:1")
def test_any_text_parses_or_is_refused(text: str) -> None:
    """The only exception is RuleError, with at least one problem."""
    found = problems_if_any(text)
    assert all(problem.message and (problem.field or not text.strip()) for problem in found)


@given(rules(), st.data())
def test_damaged_rules_parse_or_are_refused(rule: Rule, data: st.DataObject) -> None:
    """A rule with a piece removed or doubled is parsed or raises RuleError."""
    text = str(rule)
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, len(text)))
    for damaged in (text[:begin] + text[end:], text[:end] + text[begin:]):
        assert all(problem.message for problem in problems_if_any(damaged))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (PLAIN, PLAIN),
        ("239.1.1.1%eth0:5001 -> 239.2.0.1%eth1:6001", PLAIN),
        ("239.1.1.1%eth0:5001->239.2.0.1%eth1:6001", PLAIN),
        ("  239.1.1.1%eth0:5001\tto\n239.2.0.1%eth1:6001 ", PLAIN),
        (PLAIN + ", 192.0.2.7:7000", PLAIN + " 192.0.2.7:7000"),
        (PLAIN + ",192.0.2.7:7000,ttl=8", PLAIN + " 192.0.2.7:7000,ttl=8"),
        (PLAIN + " , 192.0.2.7:7000", PLAIN + " 192.0.2.7:7000"),
        (PLAIN + " [ff3e::2]%eth1:6001", PLAIN + " ff3e::2%eth1:6001"),
        (PLAIN + " [ff3e::2%eth1]:6001", PLAIN + " ff3e::2%eth1:6001"),
        (PLAIN + " ff3e::0:2%eth1:6001", PLAIN + " ff3e::2%eth1:6001"),
        (PLAIN + " [2001:DB8::7]:7000", PLAIN + " [2001:db8::7]:7000"),
        (PLAIN + " Studio.Example:7000", PLAIN + " studio.example:7000"),
        (PLAIN + ",dscp=0", PLAIN),
        (PLAIN + ",ttl=8,loop=on,dscp=0", PLAIN + ",ttl=8,loop=on"),
        (
            PLAIN + ",sport=keep,source=keep,ttl=decrement",
            PLAIN + ",ttl=decrement,source=keep,sport=keep",
        ),
        (PLAIN + ",dscp=046,loop=off,ttl=8", PLAIN + ",ttl=8,dscp=46,loop=off"),
        (
            "10.0.0.6+10.0.0.5@" + PLAIN.replace(":5001", ":5001,vlan=7,name=a"),
            "10.0.0.5+10.0.0.6@239.1.1.1%eth0:5001,name=a,vlan=7 to 239.2.0.1%eth1:6001",
        ),
        (
            "[2001:db8::1]+2001:db8::2@[ff3e::1]%eth0:1 to a.b:2,source=192.0.2.1,sport=9",
            "2001:db8::1+2001:db8::2@ff3e::1%eth0:1 to a.b:2,source=192.0.2.1,sport=9",
        ),
        (
            "239.1.0.0/16%eth0:5000-5099,join=none,vlan=7 -> 239.2.0.0/16%eth1:6000-6099",
            "239.1.0.0/16%eth0:5000-5099,vlan=7,join=none to 239.2.0.0/16%eth1:6000-6099",
        ),
        (
            PLAIN.replace(":5001", ":5001,seq=004:032le"),
            PLAIN.replace(":5001", ":5001,seq=4:32le"),
        ),
        (PLAIN.replace(":5001", ":5001,seq=0:8le"), PLAIN.replace(":5001", ":5001,seq=0:8")),
        ("239.1.1.1/32%eth0:5001-5001 to 239.2.0.1/32%eth1:6001-6001", PLAIN),
        ("239.0.0.0/8%eth0:5001 to 239.0.0.0/8%eth1:5001 h:1",) * 2,
        (
            "[FF3E::]/32%eth0:5001 to [ff3e:1::/32]%eth1:5001",
            "ff3e::/32%eth0:5001 to ff3e:1::/32%eth1:5001",
        ),
        ("[ff3e::]/32:5001 to [ff3e:1::/32]:5001", "[ff3e::/32]:5001 to [ff3e:1::/32]:5001"),
        ("239.1.0.0/16%eth0:1-9 to ff3e::7:0/112%eth1:1-9 h:1-9",) * 2,
        ("192.0.2.1:5000-5099 to h:6000-6099 192.0.2.7:7000",) * 2,
    ],
)
def test_accepted_spellings_have_one_canonical_form(text: str, canonical: str) -> None:
    """All spellings of a rule have the same text."""
    assert str(Rule.parse(text)) == canonical


def test_all_fields_are_parsed() -> None:
    """Each field of the text is in the value under its name."""
    rule = Rule.parse(
        "2001:db8::5@ff3e::1%eth0:5001,name=feed-a,vlan=7"
        " to 239.2.0.1%eth1:6001,ttl=8,dscp=46,source=192.0.2.1,sport=99,loop=off,priority=3"
    )
    assert rule.name == "feed-a"
    assert rule.input == Input(
        IPv6Address("ff3e::1"), 5001, interface="eth0", sources=["2001:db8::5"], vlan=7
    )
    assert rule.outputs == (
        Output(
            IPv4Address("239.2.0.1"),
            6001,
            interface="eth1",
            ttl=8,
            dscp=46,
            source="192.0.2.1",
            source_port=99,
            loop=False,
            priority=3,
        ),
    )


def test_blocks_and_ranges_are_parsed() -> None:
    """A block is a network, and several ports are a range."""
    rule = Rule.parse("239.1.0.0/16%eth0:5000-5099,join=none to 239.2.0.0/16%eth1:6000-6099 h:7")
    block = IPv4Network("239.1.0.0/16")
    assert rule.input == Input(block, range(5000, 5100), interface="eth0", join="none")
    assert rule.outputs == (
        Output("239.2.0.0/16", range(6000, 6100), interface="eth1"),
        Output("h", 7),
    )
    assert rule.outputs[0].effective_ttl == 1


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("", "", "the rule is empty"),
        ("239.1.1.1%eth0:5001", "outputs", "the shell read '>' as a redirection; write 'to'"),
        ("239.1.1.1%eth0:5001 -", "outputs", "the shell read '>' as a redirection; write 'to'"),
        ("239.1.1.1%eth0:5001-", "outputs", "the shell read '>' as a redirection; write 'to'"),
        ("239.1.1.1%eth0:5001 > h:1", "outputs", "write 'to' between input and outputs"),
        ("239.1.1.1%eth0:5001 h:1", "outputs", "no 'to' between input and outputs"),
        ("239.1.1.1%eth0:5001 to", "outputs", "missing after 'to'"),
        ("to h:1", "input", "missing before 'to'"),
        (PLAIN + " to h:1", "outputs", "second 'to'"),
        ("239.1.1.1%eth0:5001, vlan=7 to h:1", "input", "contains a space"),
        ("239.1.1.1%e:1 + 239.1.1.2%e:1 to h:1", "merge", "is missing"),
        (f"{PAIR},merge=rtp,after=1s to h:1", "after", "needs merge=failover, not merge=rtp"),
        (f"{PAIR},merge=failover,after=1m to h:1", "input 2, after", "must be a time such as"),
        (
            f"{PAIR},merge=failover,after=61s to h:1",
            "input 2, after",
            "is out of range: 1ms to 60s",
        ),
        (f"{PAIR},merge=hash,reorder=5ms to h:1", "reorder", "needs numbers, which merge=hash"),
        (
            f"{PAIR},merge=rtp,reorder=1s to h:1",
            "input 2, reorder",
            "is out of range: 1ms to 500ms",
        ),
        (f"{PAIR},merge=rtp,late=send,reorder=5ms to h:1", "late", "must be drop with reorder"),
        (f"{PAIR},merge=failover,late=drop to h:1", "late", "needs numbers, which merge=failover"),
        ("239.1.1.1%e:1+239.1.1.2%e:1 to h:1", "input", "several inputs need spaces"),
        (
            "239.1.1.1%e:1,merge=rtp to h:1",
            "merge",
            "needs several inputs",
        ),
        ("239.1.1.1%e:1,join=all to h:1", "input, join", "must be 'each' or 'none'"),
        ("192.0.2.1:1,join=none to h:1", "input, join", "192.0.2.1 is the address of a host"),
        (
            "239.0.0.0/8%e:1,join=each to h:1",
            "input, join",
            "239.0.0.0/8 has 16777216 groups, but a rule joins at most 4096; write join=none, or",
        ),
        (PLAIN + ",join=none", "output 1, join", "is an option of the input"),
        (
            PLAIN + ",speed=5",
            "output 1, speed",
            "is not an option; the options of an output are ttl",
        ),
        ("239.1.0.1/16%e:1 to h:1", "input, group", "has host bits set; write 239.1.0.0/16"),
        ("ff3e::1/32%e:1 to h:1", "input, group", "has host bits set; write ff3e::/32"),
        ("239.1.0.0/33%e:1 to h:1", "input, group", "the prefix length after '/' must be 0 to 32"),
        ("239.1.0.0/%e:1 to h:1", "input, group", "the prefix length after '/' must be 0 to 32"),
        ("ff3e::/255%e:1 to h:1", "input, group", "the prefix length after '/' must be 0 to 128"),
        ("239.1.0.0/255.255.0.0%e:1 to h:1", "input, group", "the prefix length after '/' must be"),
        (
            "192.0.2.0/24%e:1 to h:1",
            "input, group",
            "192.0.2.0/24 is not a block of multicast",
        ),
        ("224.0.0.0/3%e:1 to h:1", "input, group", "is not a block of multicast groups"),
        (
            "239.1.0.0/1%e:1 to h:1",
            "input, group",
            "239.1.0.0/1 is not a block of multicast",
        ),
        (
            "10.0.0.5/24%e:1 to h:1",
            "input, group",
            "one within 224.0.0.0/4, or a single address",
        ),
        ("fd00::/64%e:1 to h:1", "input, group", "write one within ff00::/8, or a single address"),
        (
            "239.1.1.1%e:5000- to h:1",
            "input, port",
            "'5000-' is not a range of ports; write one such as 5000-5099",
        ),
        (
            "239.1.1.1%e:1 239.1.1.2%e:1 to h:1",
            "input",
            "write 'INPUT + INPUT to' for several inputs",
        ),
        ("ff01::/32%e:1 to h:1", "input, group", "interface-local scope"),
        (
            "239.1.0.0/16%e:1 to 10.0.0.0/16:1",
            "output 1, address",
            "not a block of multicast",
        ),
        ("10.0.0.0/8@239.1.1.1%e:1 to h:1", "input, sources", "a block of addresses; write one"),
        (PLAIN + ",source=10.0.0.0/8", "output 1, source", "a block of addresses; write one"),
        (
            "239.1.1.1%e:1 to 239.2.0.0/16%e:1",
            "output 1, address",
            "239.2.0.0/16 has 65536 addresses, but the input 239.1.1.1 has 1; give both",
        ),
        (
            "239.1.0.0/16%e:1 to h:1 239.2.0.0/24%e:1",
            "output 2, address",
            "239.2.0.0/24 has 256 addresses, but the input 239.1.0.0/16 has 65536; give",
        ),
        (
            "239.1.1.1%e:5000-5099 to h:6000-6100",
            "output 1, port",
            "6000-6100 has 101 ports, but the input 5000-5099 has 100; give both the",
        ),
        ("239.1.1.1%e:5099-5000 to h:1", "input, port", "is in reverse order; write 5000-5099"),
        ("239.1.1.1%e:0-5 to h:1", "input, port", "0 is out of range: 1 to 65535"),
        ("239.1.1.1%e:1 to h:1-65536", "output 1, port", "65536 is out of range"),
        ("239.1.1.1%e:1 to h:1,sport=1-2", "output 1, sport", "not '1-2'"),
        ("239.1.1.1%e:0 to h:1", "input, port", "0 is out of range: 1 to 65535"),
        ("239.1.1.1%e:1 to h:70000", "output 1, port", "70000 is out of range"),
        ("239.1.1.1%e:http to h:1", "input, port", "not 'http'"),
        ("239.1.1.1%e: to h:1", "input, port", "not ''"),
        ("239.1.1.1%e to h:1", "input, port", "missing in"),
        ("ff3e::1%e to h:1", "input, port", "missing in"),
        ("239.1.1.1%e:1 to h", "output 1, port", "missing in 'h'"),
        ("ff3e::1:5001 to h:1", "input, group", "as [address]:port"),
        ("239.1.1.1%e:1 to [::1:2", "output 1, address", "the closing ']' is missing"),
        ("239.1.1.1%e:1 to [192.0.2.1]:2", "output 1, address", "brackets are for IPv6"),
        ("239.1.1.1%e:1 to [::1]x:2", "output 1, address", "after ']'"),
        ("239.1.1.300%e:1 to h:1", "input, group", "'239.1.1.300' is not an IP address"),
        ("studio.example%e:1 to h:1", "input, group", "an input cannot be a host name"),
        ("239.1.1.1%e:1 to 239.2.0.300%e:1", "output 1, address", "is not an IP address"),
        ("239.1.1.1%e:1 to a_b..c:1", "output 1, address", "neither an IP address nor a host"),
        ("ff01::1%e:1 to h:1", "input, group", "interface-local scope"),
        ("239.1.1.1%:1 to h:1", "input, interface", "must not be empty"),
        ("239.1.1.1%e=0:1 to h:1", "input, interface", "can only be named in Python"),
        (f"239.1.1.1%{'a' * 128}:1 to h:1", "input, interface", "longer than 127"),
        ("10.0.0.1@239.1.1.1%e:1 to 10.0.0.2@h:1", "output 1, source", "',source=ADDRESS'"),
        ("h@239.1.1.1%e:1 to h:1", "input, sources", "'h' is not an IP address"),
        ("239.0.0.1@239.1.1.1%e:1 to h:1", "input, sources", "is a multicast group"),
        ("10.0.0.1+10.0.0.1@239.1.1.1%e:1 to h:1", "input, sources", "listed twice"),
        ("10.0.0.1,10.0.0.2@239.1.1.1%e:1 to h:1", "input, sources", "joined by '+'"),
        ("::1@239.1.1.1%e:1 to h:1", "input, sources", "::1 is IPv6, but 239.1.1.1 is IPv4"),
        ("239.1.1.1%e:1,vlan=0 to h:1", "input, vlan", "out of range: 1 to 4094"),
        ("239.1.1.1%e:1,vlan=x to h:1", "input, vlan", "not 'x'"),
        ("239.1.1.1%e:1,seq=rtcp to h:1", "input, seq", "must be rtp, rtp/CLOCK_HZ, ts, mold"),
        ("239.1.1.1%e:1,seq=rtp/0 to h:1", "input, seq", "0 is out of range: 1 to 1000000000"),
        ("239.1.1.1%e:1,seq=4:31 to h:1", "input, seq", "the width must be 8, 16, 24, 32, 48 or"),
        ("239.1.1.1%e:1,seq=65528:8 to h:1", "input, seq", "out of range: 0 to 65527"),
        ("239.1.1.1%e:1,name= to h:1", "input, name", "needs a value"),
        ("239.1.1.1%e:1,ttl=3 to h:1", "input, ttl", "is an option of the output"),
        (PLAIN + ",name=a", "output 1, name", "is an option of the input"),
        (PLAIN + ",tll=3", "output 1, tll", "did you mean 'ttl'?"),
        (PLAIN + ",prioritty=3", "output 1, prioritty", "did you mean 'priority'?"),
        ("239.1.1.1%e:1,vlam=3 to h:1", "input, vlam", "did you mean 'vlan'?"),
        ("239.1.1.1%e:1, to h:1", "input", "there is an empty option"),
        (PLAIN + ",ttl", "output 1, ttl", "needs a value; write ttl=VALUE"),
        (PLAIN + ",ttl=1,ttl=2", "output 1, ttl", "given twice"),
        (PLAIN + " ttl=2", "output 2, address", "missing before 'ttl=2'"),
        (PLAIN + ",ttl=0", "output 1, ttl", "0 is out of range: 1 to 255"),
        (PLAIN + ",ttl=256", "output 1, ttl", "256 is out of range"),
        (PLAIN + ",ttl=-1", "output 1, ttl", "-1 is out of range"),
        (PLAIN + ",dscp=64", "output 1, dscp", "out of range: 0 to 63"),
        (PLAIN + ",dscp=ef", "output 1, dscp", "not 'ef'"),
        (PLAIN + ",ttl=Keep", "output 1, ttl", "(it may also be 'keep' or 'decrement')"),
        (PLAIN + ",sport=decrement", "output 1, sport", "(it may also be 'keep')"),
        (PLAIN + " [::1]:1,source=keep", "output 2, source", "239.1.1.1 is IPv4, but ::1 is IPv6"),
        (PLAIN + ",priority=7", "output 1, priority", "out of range: 0 to 6"),
        (PLAIN + ",sport=0", "output 1, sport", "out of range: 1 to 65535"),
        (PLAIN + ",loop=yes", "output 1, loop", "must be 'on' or 'off'"),
        (PLAIN + ",source=h", "output 1, source", "'h' is not an IP address"),
        (PLAIN + ",source=::1", "output 1, source", "::1 is IPv6, but 239.2.0.1 is IPv4"),
        (PLAIN + ",source=fe80::1%eth0", "output 1, source", "has a zone"),
    ],
)
def test_each_mistake_names_its_field_and_the_fix(text: str, field: str, message: str) -> None:
    """With what to write instead."""
    found = problems(text)
    assert list(found) == [field]
    assert message in found[field]


def test_all_mistakes_are_reported_at_once() -> None:
    """In the order of the text."""
    found = problems("239.1.1%e:0,vlan=9999 to h:70000,ttl=0 [::1]:1,tll=1,dscp=99")
    assert list(found) == [
        "input, group",
        "input, port",
        "input, vlan",
        "output 1, port",
        "output 1, ttl",
        "output 2, tll",
        "output 2, dscp",
    ]


def test_a_lone_input_has_no_name() -> None:
    """The name belongs to the rule."""
    with pytest.raises(RuleError, match="name: belongs to a rule"):
        Input.parse("239.1.1.1%eth0:5001,name=a")


def test_a_lone_endpoint_names_its_fields_without_a_path() -> None:
    """The field alone is enough."""
    with pytest.raises(RuleError) as caught:
        Output.parse("239.2.0.1%eth1:0,ttl=0")
    assert [problem.field for problem in caught.value.problems] == ["port", "ttl"]


@pytest.mark.parametrize("text", ["", "  ", ",", "to"])
def test_an_empty_endpoint_is_refused(text: str) -> None:
    """Nothing is no endpoint."""
    with pytest.raises(RuleError):
        Output.parse(text)


@pytest.mark.parametrize(
    ("arguments", "rules"),
    [
        ([PLAIN, PLAIN], [PLAIN, PLAIN]),
        (PLAIN.split(), [PLAIN]),
        ([*PLAIN.split(), "h:1"], [PLAIN + " h:1"]),
        (["239.1.1.1%eth0:5001", "-"], ["239.1.1.1%eth0:5001 -"]),
        (["239.1.1.1%eth0:5001"], ["239.1.1.1%eth0:5001"]),
        (["239.1.1.1%eth0:5001", "h:1"], ["239.1.1.1%eth0:5001 h:1"]),
        (["239.1.1.1%eth0:5001->h:1"] * 2, ["239.1.1.1%eth0:5001->h:1"] * 2),
        ([], []),
    ],
)
def test_command_line_arguments_become_rules(arguments: list[str], rules: list[str]) -> None:
    """Rules need no quotes where there is only one."""
    assert grammar.join_arguments(arguments) == rules


def test_several_rules_are_numbered_in_their_problems() -> None:
    """All problems at once, each under the number of its rule."""
    with pytest.raises(RuleError) as caught:
        parse_rules([PLAIN + ",ttl=0", Rule.parse(PLAIN), PLAIN + ",ttl=8,dscp=99"])
    fields = [problem.field for problem in caught.value.problems]
    assert fields == ["rule 1, output 1, ttl", "rule 3, output 1, dscp"]
