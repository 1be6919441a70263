"""Rules as values: valid arguments, derived values and problems."""

import copy
import dataclasses
import pickle
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

import pytest

from mcr.errors import (
    ArgumentError,
    EngineError,
    InterfaceError,
    McrError,
    Problem,
    RightsError,
    RuleError,
)
from mcr.rules import Input, Output, Rule, parse_rules

TAKEN = Input("239.1.1.1", 5001, interface="eth0")
OUTPUT = Output("239.2.0.1", 6001, interface="eth1")


def problems(make: Any, *args: Any, **named: Any) -> dict[str, str]:  # noqa: ANN401 - any value is tried
    """The problems of invalid arguments, by field."""
    with pytest.raises(RuleError) as caught:
        make(*args, **named)
    return {each.field: each.message for each in caught.value.problems}


def test_text_becomes_typed_addresses() -> None:
    """Addresses become ipaddress objects, whatever their type was."""
    assert TAKEN.group == IPv4Address("239.1.1.1")
    assert Output(IPv6Address("ff3e::2"), 1, interface="e").address == IPv6Address("ff3e::2")
    assert Output("Studio.Example", 1).address == "studio.example"


def test_values_are_frozen() -> None:
    """No field of a value can be changed."""
    for value, field in ((TAKEN, "port"), (OUTPUT, "ttl"), (Rule(TAKEN, [OUTPUT]), "name")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, 1)


def test_values_are_copied_pickled_and_replaced() -> None:
    """A rule goes through copy, pickle and dataclasses.replace, and can be a key."""
    rule = Rule(TAKEN, [OUTPUT], name="a")
    assert copy.deepcopy(rule) == rule
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert dataclasses.replace(rule, name="b").name == "b"
    assert problems(dataclasses.replace, OUTPUT, ttl=0).keys() == {"ttl"}
    assert {rule: 1}[Rule(TAKEN, (OUTPUT,), name="a")] == 1


def test_the_order_of_sources_does_not_matter() -> None:
    """Sources are a set: the same ones make the same input."""
    one = Input("232.1.1.1", 1, interface="e", sources=["10.0.0.2", "10.0.0.10"])
    other = Input("232.1.1.1", 1, interface="e", sources=["10.0.0.10", IPv4Address("10.0.0.2")])
    assert one == other


def test_the_id_does_not_depend_on_the_name() -> None:
    """It has 12 hex digits, and depends on everything else."""
    rule = Rule(TAKEN, [OUTPUT], name="a")
    assert len(rule.id) == 12
    int(rule.id, 16)
    assert rule.id == Rule(TAKEN, [OUTPUT]).id
    assert rule.id != Rule(TAKEN, [dataclasses.replace(OUTPUT, ttl=8)]).id
    assert rule.id != Rule(dataclasses.replace(TAKEN, vlan=7), [OUTPUT]).id


def test_a_lone_text_is_no_sequence_of_rules() -> None:
    """Otherwise each character would be taken for a rule."""
    with pytest.raises(ArgumentError, match="a sequence"):
        parse_rules("239.1.1.1%lo:1 to 127.0.0.1:2")


def test_the_id_is_stable_across_versions() -> None:
    """Users write ids down, so they must not change."""
    assert Rule(TAKEN, [OUTPUT]).id == "33f03e3d5628"


def test_default_ttl_depends_on_the_address() -> None:
    """1 for multicast and 64 for unicast; it can be read."""
    assert OUTPUT.ttl is None
    assert OUTPUT.effective_ttl == 1
    assert Output("255.255.255.255", 7000, interface="eth0").effective_ttl == 1
    assert Output("192.0.2.7", 7000).effective_ttl == 64
    assert Output("studio.example", 7000).effective_ttl == 64
    assert Output("192.0.2.7", 7000, ttl=8).effective_ttl == 8
    assert Output("192.0.2.7", 7000, ttl="decrement").effective_ttl == "decrement"


@pytest.mark.parametrize(
    ("named", "field", "message"),
    [
        ({"group": "studio.example"}, "group", "cannot be a host name"),
        ({"group": 5}, "group", "is not an IP address"),
        ({"group": "239.1.1.1/24"}, "group", "has host bits set"),
        ({"group": "ff02::%eth0/120"}, "group", "has a zone"),
        ({"group": IPv4Network("10.0.0.0/8")}, "group", "is not a block of multicast groups"),
        ({"group": "0.0.0.0"}, "group", "means any address"),
        ({"group": "::"}, "group", "means any address"),
        ({"group": "::ffff:239.1.1.1"}, "group", "write 239.1.1.1"),
        ({"group": "fe80::1%eth0"}, "group", "has a zone"),
        ({"group": "ff01::1"}, "group", "interface-local"),
        ({"group": "ff11::1"}, "group", "interface-local"),
        ({"port": "5001"}, "port", "not '5001'"),
        ({"port": True}, "port", "not True"),
        ({"port": 0}, "port", "0 is out of range"),
        ({"port": 65536}, "port", "65536 is out of range"),
        ({"port": range(5, 5)}, "port", "range(5, 5) is not a range of ports"),
        ({"port": range(1, 9, 2)}, "port", "range(1, 9, 2) is not a range of ports"),
        ({"port": range(9, 1, -1)}, "port", "is not a range of ports"),
        ({"port": range(65000, 65537)}, "port", "65536 is out of range"),
        ({"join": "all"}, "join", "must be 'each' or 'none', not 'all'"),
        ({"group": "239.0.0.0/8", "join": "each"}, "join", "joins at most 4096"),
        ({"interface": ""}, "interface", "must not be empty"),
        ({"interface": 2}, "interface", "must be a string"),
        ({"interface": "a/b"}, "interface", "is not a possible interface name"),
        ({"interface": "."}, "interface", "is not a possible interface name"),
        ({"interface": "é" * 64}, "interface", "longer than 127 bytes"),
        ({"sources": "10.0.0.1"}, "sources", "must be a sequence"),
        ({"sources": 7}, "sources", "must be a sequence"),
        ({"sources": ["239.0.0.1"]}, "sources", "is a multicast group"),
        ({"sources": ["2001:db8::1"]}, "sources", "2001:db8::1 is IPv6, but 239.1.1.1 is IPv4"),
        ({"vlan": 4095}, "vlan", "4095 is out of range"),
    ],
)
def test_invalid_fields_of_inputs(named: dict[str, object], field: str, message: str) -> None:
    """Each field is checked separately."""
    found = problems(Input, **{"group": "239.1.1.1", "port": 1} | named)
    assert list(found) == [field]
    assert message in found[field]


@pytest.mark.parametrize(
    ("named", "field", "message"),
    [
        ({"source": "255.255.255.255"}, "source", "is a broadcast address; a source must be"),
        ({"address": "300.1.1.1"}, "address", "is not an IP address"),
        ({"address": "1"}, "address", "is not an IP address"),
        ({"address": "a b"}, "address", "nor a host name"),
        ({"address": "-a"}, "address", "nor a host name"),
        ({"address": "a" * 64}, "address", "nor a host name"),
        ({"address": "a.1"}, "address", "nor a host name"),
        ({"address": ""}, "address", "nor a host name"),
        ({"ttl": 0}, "ttl", "out of range: 1 to 255"),
        ({"ttl": 1.5}, "ttl", "must be an integer from"),
        ({"dscp": None}, "dscp", "must be an integer from"),
        ({"dscp": 64}, "dscp", "out of range: 0 to 63"),
        ({"source": "127.0.0.1", "address": "::1"}, "source", "127.0.0.1 is IPv4"),
        ({"source": "0.0.0.0"}, "source", "means any address"),
        (
            {"ttl": "kept"},
            "ttl",
            "from 1 to 255, not 'kept' (it may also be 'keep' or 'decrement')",
        ),
        ({"dscp": "decrement"}, "dscp", "from 0 to 63, not 'decrement' (it may also be 'keep')"),
        (
            {"source_port": "any"},
            "source_port",
            "from 1 to 65535, not 'any' (it may also be 'keep')",
        ),
        ({"source_port": -1}, "source_port", "-1 is out of range"),
        ({"loop": 1}, "loop", "must be True or False"),
        ({"priority": 7}, "priority", "out of range: 0 to 6"),
        ({"rate": "0mbit"}, "rate", "out of range: 1kbit to 100gbit"),
        ({"rate": "999999gbit"}, "rate", "out of range: 1kbit to 100gbit"),
        ({"rate": "fast"}, "rate", "must be bits or datagrams a second"),
        ({"rate": "1mbit", "burst": 100}, "burst", "less than one datagram"),
        ({"burst": 2000}, "burst", "needs a rate"),
        ({"queue": "20ms"}, "queue", "needs a rate"),
        ({"rate": "1mbit", "queue": "2s"}, "queue", "out of range: 1ms to 1s"),
        ({"pace": True}, "pace", "needs a rate"),
        ({"rate": "1mbit", "burst": 2000, "pace": True}, "pace", "sends no bursts"),
        ({"rate": "1mbit", "queue": 20}, "queue", "must be a time such as 20ms"),
    ],
)
def test_invalid_fields_of_outputs(named: dict[str, object], field: str, message: str) -> None:
    """Each field is checked separately."""
    found = problems(Output, **{"address": "239.2.0.1", "port": 1} | named)
    assert list(found) == [field]
    assert message in found[field]


@pytest.mark.parametrize(
    ("args", "named", "field", "message"),
    [
        (("239.1.1.1", [OUTPUT]), {}, "input", "must be an mcr.Input"),
        ((TAKEN, OUTPUT), {}, "outputs", "must be a sequence of mcr.Output"),
        ((TAKEN, "h:1"), {}, "outputs", "must be a sequence of mcr.Output"),
        ((TAKEN, []), {}, "outputs", "at least one output"),
        ((TAKEN, [OUTPUT, "h:1"]), {}, "outputs", "must be mcr.Output, not 'h:1'"),
        ((TAKEN, [OUTPUT]), {"name": ""}, "name", "1 to 64 characters"),
        ((TAKEN, [OUTPUT]), {"name": "a" * 65}, "name", "1 to 64 characters"),
        ((TAKEN, [OUTPUT]), {"name": "a b"}, "name", "a comma, a space"),
        ((TAKEN, [OUTPUT]), {"name": "a,b"}, "name", "a comma, a space"),
        ((TAKEN, [OUTPUT]), {"name": "\x1b[2J"}, "name", "unprintable"),
        ((TAKEN, [OUTPUT]), {"name": 5}, "name", "must be a string"),
    ],
)
def test_invalid_parts_of_rules(
    args: tuple[object, ...], named: dict[str, object], field: str, message: str
) -> None:
    """A rule has an input, outputs and perhaps a name."""
    found = problems(Rule, *args, **named)
    assert list(found) == [field]
    assert message in found[field]


def test_a_sender_is_kept_within_one_ip_version() -> None:
    """The other version cannot express the address; a name resolves accordingly."""
    keeping = [
        Output("192.0.2.7", 1),
        Output("::1", 1, source="keep"),
        Output("h", 1, source="keep"),
    ]
    found = problems(Rule, TAKEN, keeping)
    assert list(found) == ["output 2, source"]
    assert "cannot be kept: 239.1.1.1 is IPv4, but ::1 is IPv6" in found["output 2, source"]


def test_a_constructor_reports_all_fields_at_once() -> None:
    """In one error."""
    found = problems(Output, "::", 0, ttl=0, dscp=99)
    assert list(found) == ["address", "port", "ttl", "dscp"]


def test_only_text_is_parsed() -> None:
    """A value of another type is a TypeError."""
    with pytest.raises(ArgumentError, match=r"an mcr\.Rule or a string, not int"):
        Rule.parse(5)  # type: ignore[arg-type]


def test_every_error_is_an_mcr_error_and_a_builtin_one() -> None:
    """Programs can catch errors by one class, or by a builtin class."""
    pairs = (
        (RuleError, ValueError),
        (InterfaceError, OSError),
        (RightsError, PermissionError),
        (EngineError, RuntimeError),
    )
    for error, builtin in pairs:
        assert issubclass(error, McrError)
        assert issubclass(error, builtin)
        assert str(error("one sentence")) == "one sentence"


def test_a_problem_has_its_path_as_data() -> None:
    """Its text is for people; numbers and names that look alike stay apart."""
    problem = Problem("ttl", "is wrong").under("output", 1).under("rule", 2)
    assert problem.path == ("rule", 2, "output", 1, "ttl")
    assert [*problem] == [problem.field, problem.message] == ["rule 2, output 1, ttl", "is wrong"]
    assert problem != Problem("rule 2, output 1, ttl", "is wrong")
    assert str(Problem((), "is empty").under("rule", 2)) == "rule 2: is empty"


def test_a_rule_error_keeps_its_problems_through_pickle() -> None:
    """So that they can cross a process boundary."""
    error = pickle.loads(pickle.dumps(RuleError([("ttl", "is wrong"), ("port", "too")])))
    assert error.problems == (Problem("ttl", "is wrong"), Problem("port", "too"))
    assert str(error) == "ttl: is wrong\nport: too"
