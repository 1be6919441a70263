"""Rules as clients and files bring them, as `mcr.Rule`s, and back.

Owns the way between rule objects and rules. What fits this host is the business of `rulebook`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from ....errors import Problem, RuleError
from ....rules import Input, Output, Rule
from ....rules.grammar import GRAMMAR_CHARACTERS, format_ports
from ....rules.spec import ResolvedRule
from .. import limits
from ..api.params import AnyEntry, InputObject, OutputObject, RuleEntry, RuleObject
from ..api.validation import problems_of

_ENTRY: TypeAdapter[str | RuleObject | RuleEntry] = TypeAdapter(AnyEntry)
_SLICE = 100
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


class EnabledRule(NamedTuple):
    """A rule and whether it relays."""

    rule: Rule
    enabled: bool
    resolved: ResolvedRule | None = None
    """What workers run of it, where an earlier process has told them; clients never say it."""


class EntryReader:
    """Rules from what JSON or TOML holds: text, objects, or either with `enabled` beside it.

    In slices, so that whoever brings thousands lets others come between.
    """

    def __init__(self, values: Sequence[object], *, enabled: bool) -> None:
        """Take a list of them, and whether those relay that do not say."""
        self._values = values
        self._enabled = enabled
        self._read = 0
        self._entries: list[EnabledRule] = []
        self._problems: list[Problem] = []

    def read_on(self) -> bool:
        """Read one slice; whether there is more to read."""
        for value in self._values[self._read : self._read + _SLICE]:
            self._read += 1
            try:
                self._entries.append(read_entry(value, enabled=self._enabled))
            except RuleError as error:
                number = f"rule {self._read}"
                self._problems += [problem.under(number) for problem in error.problems]
        return self._read < len(self._values) and len(self._problems) <= limits.PROBLEMS

    def entries(self) -> list[EnabledRule]:
        """What was read.

        Raises:
            RuleError: with the problems of all, each under `rule N`, counted from 1.
        """
        if self._problems:
            raise RuleError(self._problems)
        return self._entries


def read_entries(values: Sequence[object], *, enabled: bool) -> list[EnabledRule]:
    """All of them at once; see `Reading`."""
    reading = EntryReader(values, enabled=enabled)
    while reading.read_on():
        pass
    return reading.entries()


def read_entry(value: object, *, enabled: bool) -> EnabledRule:
    """One of them.

    Raises:
        RuleError: with everything that is wrong with it.
    """
    try:
        given = _ENTRY.validate_python(value)
    except ValidationError as error:
        raise RuleError(problems_of(error, None)) from None
    if isinstance(given, RuleEntry):
        enabled = enabled if given.enabled is None else given.enabled
        given = given.rule
    return EnabledRule(Rule.parse(given) if isinstance(given, str) else rule_of(given), enabled)


def rule_of(given: RuleObject) -> Rule:
    """The rule that an object says.

    Raises:
        RuleError: with everything that is wrong, under the object's own fields.
    """
    problems: list[Problem] = []
    taken = _made(lambda: _input(given.input), "input", problems)
    outputs = [
        _made(lambda output=output: _output(output), f"output {number}", problems)
        for number, output in enumerate(given.outputs, 1)
    ]
    if problems or taken is None:
        raise RuleError(problems)
    return Rule(taken, [output for output in outputs if output is not None], name=given.name)


def object_of(rule: Rule) -> dict[str, Any]:
    """The object that says a rule; fields that hold their default are left out."""
    taken = {
        "address": str(rule.input.group),
        "port": _port_of(rule.input.port),
        "interface": rule.input.interface,
        "sources": [str(source) for source in rule.input.sources],
        "vlan": rule.input.vlan,
        "join": rule.input.join,
    }
    made = {"input": _brief(taken), "outputs": [_output_object(each) for each in rule.outputs]}
    return made if rule.name is None else {"name": rule.name} | made


def written(rule: Rule) -> str | dict[str, Any]:
    """A rule as text, or as an object where text cannot be read back."""
    ends: Iterable[Input | Output] = (rule.input, *rule.outputs)
    names = (end.interface for end in ends if end.interface is not None)
    if any(character in name for name in names for character in GRAMMAR_CHARACTERS):
        return object_of(rule)
    return str(rule)


def _made(make: Any, path: str, problems: list[Problem]) -> Any:  # noqa: ANN401 -- what is made
    try:
        return make()
    except RuleError as error:
        problems += [problem.under(path) for problem in error.problems]
        return None


def _input(given: InputObject) -> Input:
    try:
        return Input(
            given.address,
            _ports_of(given.port),
            interface=given.interface,
            sources=given.sources,
            vlan=given.vlan,
            join=given.join,
        )
    except RuleError as error:
        # The object calls it as outputs do.
        named = [("address" if field == "group" else field, text) for field, text in error.problems]
        raise RuleError(named) from None


def _output(given: OutputObject) -> Output:
    fields = given.model_dump() | {"port": _ports_of(given.port)}
    return Output(fields.pop("address"), fields.pop("port"), **fields)


def _output_object(output: Output) -> dict[str, Any]:
    made = {
        "address": str(output.address),
        "port": _port_of(output.port),
        "interface": output.interface,
        "ttl": output.ttl,
        "dscp": output.dscp or None,
        "source": None if output.source is None else str(output.source),
        "source_port": output.source_port,
        "loop": output.loop,
        "priority": output.priority,
    }
    return _brief(made)


def _brief(made: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in made.items() if value is not None and value != []}


def _port_of(port: int | range) -> int | str:
    return format_ports(port) if isinstance(port, range) else port


def _ports_of(port: int | str) -> Any:  # noqa: ANN401 -- what is no port is refused as it is
    found = _PORTS.fullmatch(port) if isinstance(port, str) else None
    if found is None:
        return port
    first, last = int(found[1]), int(found[2] or found[1])
    return range(first, last + 1)
