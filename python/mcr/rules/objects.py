"""Rules as JSON objects, which can name every interface; rule text cannot.

Owns the members of the objects and their defaults, in both directions. Knows neither requests nor
files.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from ..errors import FieldPath, Problem, RuleError
from .endpoint_text import GRAMMAR_CHARACTERS
from .grammar import RULE_OPTIONS, format_ports, option_of
from .model import Input, Rule
from .output import Output

T = TypeVar("T")
_RESERVED = frozenset(GRAMMAR_CHARACTERS)
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


def text_or_object(rule: Rule) -> str | dict[str, Any]:
    """The rule as text, or as an object if an interface's name has a character of the grammar."""
    ends: Iterable[Input | Output] = (*rule.inputs, *rule.outputs)
    has_text = all(_RESERVED.isdisjoint(end.interface or "") for end in ends)
    return str(rule) if has_text else object_from_rule(rule)


def object_from_rule(rule: Rule) -> dict[str, Any]:
    """The rule as an object; members that hold their default are left out."""
    inputs = [_object_from_input(each) for each in rule.inputs]
    members = {
        **{option_of(name): getattr(rule, name) for name in RULE_OPTIONS},
        "expect": None if rule.expect is None else str(rule.expect),
        "input": None if rule.others else inputs[0],
        "inputs": inputs if rule.others else None,
        "outputs": [object_from_output(output) for output in rule.outputs],
    }
    return _without_defaults(members)


def rule_from_object(members: Mapping[str, Any]) -> Rule:
    """The rule that an object describes; its members are known and of the right types.

    Raises:
        RuleError: with everything that is wrong, under the members of the object.
    """
    problems: list[Problem] = []
    inputs = [
        collect(input_from_object, each, path, problems) for path, each in input_members(members)
    ]
    outputs = [
        collect(output_from_object, output, ("output", number), problems)
        for number, output in enumerate(members["outputs"], 1)
    ]
    if problems:
        raise RuleError(problems)
    options = {name: members.get(option_of(name)) for name in RULE_OPTIONS}
    first, *others = filter(None, inputs)
    return Rule(first, filter(None, outputs), others=others, **options)


def input_members(members: Mapping[str, Any]) -> list[tuple[FieldPath, Any]]:
    """The inputs in the object of a rule, each after its path: `input`, or those of `inputs`.

    Raises:
        RuleError: there is none, or both are given.
    """
    one, several = members.get("input"), members.get("inputs")
    if several is None:
        if one is None:
            raise RuleError([("input", "is missing; give input, or inputs to be merged")])
        return [(("input",), one)]
    if one is not None:
        raise RuleError([("inputs", "cannot stand beside input; omit one of them")])
    if not isinstance(several, list) or not several:
        raise RuleError([("inputs", "must be an array of inputs; write inputs = [...]")])
    return [(("input", number), each) for number, each in enumerate(several, 1)]


def _object_from_input(source: Input) -> dict[str, Any]:
    return _without_defaults(
        {
            "address": str(source.group),
            "port": _port_member(source.port),
            "interface": source.interface,
            "sources": [str(address) for address in source.sources] or None,
            "vlan": source.vlan,
            "join": source.join,
            "seq": source.seq,
        }
    )


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


def collect(
    read: Callable[[Any], T], members: object, path: FieldPath, problems: list[Problem]
) -> T | None:
    """What `read` makes of a part of a rule; None if it refuses it, which `problems` gets."""
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
