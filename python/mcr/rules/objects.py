"""Rules as JSON objects, which can name every interface; rule text cannot.

Owns the members of the objects and their defaults, in both directions. Knows neither requests nor
files.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from ..errors import FieldPath, Problem, RuleError
from .endpoint_text import GRAMMAR_CHARACTERS
from .grammar import format_ports
from .model import Input, Rule
from .output import Output

T = TypeVar("T")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


def text_or_object(rule: Rule) -> str | dict[str, Any]:
    """The rule as text, or as an object if an interface's name has a character of the grammar."""
    ends: Iterable[Input | Output] = (rule.input, *rule.outputs)
    names = "".join(end.interface or "" for end in ends)
    has_text = set(names).isdisjoint(GRAMMAR_CHARACTERS)
    return str(rule) if has_text else object_from_rule(rule)


def object_from_rule(rule: Rule) -> dict[str, Any]:
    """The rule as an object; members that hold their default are left out."""
    source = {
        "address": str(rule.input.group),
        "port": _port_member(rule.input.port),
        "interface": rule.input.interface,
        "sources": [str(address) for address in rule.input.sources] or None,
        "vlan": rule.input.vlan,
        "join": rule.input.join,
        "seq": rule.input.seq,
    }
    members = {
        "name": rule.name,
        "expect": None if rule.expect is None else str(rule.expect),
        "input": _without_defaults(source),
        "outputs": [object_from_output(output) for output in rule.outputs],
    }
    return _without_defaults(members)


def rule_from_object(members: Mapping[str, Any]) -> Rule:
    """The rule that an object describes; its members are known and of the right types.

    Raises:
        RuleError: with everything that is wrong, under the members of the object.
    """
    problems: list[Problem] = []
    source = _collect(input_from_object, members["input"], ("input",), problems)
    outputs = [
        _collect(output_from_object, output, ("output", number), problems)
        for number, output in enumerate(members["outputs"], 1)
    ]
    if problems or source is None:
        raise RuleError(problems)
    known = [output for output in outputs if output]
    return Rule(source, known, name=members.get("name"), expect=members.get("expect"))


def object_from_output(output: Output) -> dict[str, Any]:
    """The output as an object; members that hold their default are left out."""
    return _without_defaults(
        {
            "address": str(output.address),
            "port": _port_member(output.port),
            "interface": output.interface,
            "ttl": output.ttl,
            "dscp": output.dscp or None,
            "source": None if output.source is None else str(output.source),
            "source_port": output.source_port,
            "loop": output.loop,
            "priority": output.priority,
            "rate": output.rate,
            "burst": output.burst,
            "queue": output.queue,
            "pace": output.pace or None,
        }
    )


def input_from_object(members: Mapping[str, Any]) -> Input:
    """The input that an object describes; its members are known.

    Raises:
        RuleError: with everything that is wrong, under the members of the object.
    """
    options = dict(members)
    try:
        return Input(options.pop("address"), _ports(options.pop("port")), **options)
    except RuleError as error:
        # In objects the group of an input has the same name as the address of an output.
        raise RuleError(
            Problem("address", each.message) if each.path == ("group",) else each
            for each in error.problems
        ) from None


def output_from_object(members: Mapping[str, Any]) -> Output:
    """The output that an object describes, as `input_from_object`."""
    options = dict(members)
    return Output(options.pop("address"), _ports(options.pop("port")), **options)


def _collect(
    read: Callable[[Mapping[str, Any]], T],
    members: Mapping[str, Any],
    path: FieldPath,
    problems: list[Problem],
) -> T | None:
    try:
        return read(members)
    except RuleError as error:
        problems += [problem.under(*path) for problem in error.problems]
        return None


def _without_defaults(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _port_member(port: int | range) -> int | str:
    return format_ports(port) if isinstance(port, range) else port


def _ports(port: int | str) -> Any:  # noqa: ANN401 -- `Input` and `Output` refuse what is no port
    found = _PORTS.fullmatch(port) if isinstance(port, str) else None
    if found is None:
        return port
    first, last = int(found[1]), int(found[2] or found[1])
    return range(first, last + 1)
