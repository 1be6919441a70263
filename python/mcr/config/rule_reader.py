"""One rule of a configuration file, as text or as a table, with what the file's defaults add."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from ..errors import Problem, RuleError
from ..rules import Input, Output, Rule, fields, grammar
from ..rules.expectation import Expectation
from ..rules.fields import Invalid
from ..rules.grammar import RULE_OPTIONS, option_of
from ..rules.objects import collect, input_from_object, input_members, output_from_object
from . import keys
from .expansion import Values, expand, values_of
from .keys import unknown

Table = Mapping[str, Any]
_FORM = 'write "INPUT to OUTPUT", or a table with input and outputs'
_INPUTS = ("input", "inputs")


@dataclass(frozen=True, slots=True)
class RuleDefaults:
    """What the rules of a file leave out."""

    enabled: bool = True
    expect: Expectation | None = None
    input: Table = field(default_factory=dict)
    output: Table = field(default_factory=dict)

    @property
    def change_rules(self) -> bool:
        """Whether a rule's text is not yet the rule."""
        return bool(self.expect or self.input or self.output)


class ReadRule(NamedTuple):
    """A rule that was read."""

    rule: Rule | str
    """A text is not parsed yet, since the daemon may have this rule already."""
    enabled: bool


class RuleRow(NamedTuple):
    """One of the rules that an element of `rules` becomes, not read yet."""

    value: Any
    """A text or a table, with the names of `for` in it."""
    values: Values
    """The values of these names; empty without `for`."""

    @property
    def label(self) -> str | None:
        """The name of the rule, as far as it shows one."""
        name = name_of(self.value)
        try:
            return name and str(expand(name, self.values))
        except RuleError:  # which has its own problem
            return name


def rows_of(value: object) -> list[RuleRow]:
    """The rules that one element of `rules` becomes.

    Raises:
        RuleError: its `for` is wrong.
    """
    if not isinstance(value, dict) or "for" not in value:
        return [RuleRow(value, {})]
    template = {key: each for key, each in value.items() if key != "for"}
    try:
        return [RuleRow(template, values) for values in values_of(value["for"])]
    except Invalid as error:
        raise RuleError([("for", str(error))]) from None


def read_rule(row: RuleRow, defaults: RuleDefaults) -> ReadRule:
    """Read one rule.

    Raises:
        RuleError: with all problems, under the keys of the table.
    """
    value = expand(row.value, row.values) if row.values else row.value
    if isinstance(value, str):
        rule = _from_text(value, defaults) if defaults.change_rules else value
        return ReadRule(rule, defaults.enabled)
    if not isinstance(value, dict):
        raise RuleError([("", f"must be a string or a table, not {value!r}; {_FORM}")])
    return ReadRule(_from_table(value, defaults), _enabled(value, defaults))


def name_of(value: object) -> str | None:
    """The name of a rule that cannot be read, as far as it shows one."""
    if isinstance(value, dict):
        return str(value["name"]) if "name" in value else name_of(value.get("rule"))
    name = str(value).partition("name=")[2].split(",")[0].split() if isinstance(value, str) else []
    return name[0] if name else None


def _enabled(table: Table, defaults: RuleDefaults) -> bool:
    enabled = table.get("enabled", defaults.enabled)
    if not isinstance(enabled, bool):
        raise RuleError([("enabled", f"must be true or false, not {enabled!r}")])
    return enabled


def _from_table(table: Table, defaults: RuleDefaults) -> Rule | str:
    problems = [Problem(key, unknown(key, keys.RULE)) for key in table if key not in keys.RULE]
    inner = table.get("rule")
    given = {each: table.get(option_of(each)) for each in RULE_OPTIONS}
    own = {each: value for each, value in given.items() if value is not None}
    has_input = any(key in table for key in _INPUTS)
    if inner is not None and (has_input or "outputs" in table):
        problems.append(Problem("rule", "cannot stand beside input and outputs; omit one of them"))
    elif inner is None and not (has_input and "outputs" in table):
        problems.append(Problem("", f"has neither rule nor both input and outputs; {_FORM}"))
    if problems:
        raise RuleError(problems)
    if isinstance(inner, dict):
        return _from_table({**inner, **own}, defaults)
    if isinstance(inner, str) and not own and not defaults.change_rules:
        return inner
    if inner is None:
        return _from_parts(table, own, defaults)
    if not isinstance(inner, str):
        raise RuleError([("rule", f"must be a string or a table, not {inner!r}; {_FORM}")])
    return _from_text(inner, defaults, own)


def _from_text(text: str, defaults: RuleDefaults, own: Table = MappingProxyType({})) -> Rule:
    parts = grammar.parse_rule(text)
    outputs = [_with_output(each, defaults.output) for each in parts.outputs if type(each) is dict]
    first, *others = (Input(**{**defaults.input, **each}) for each in parts.inputs)
    options = {**parts.options, "expect": parts.expect or defaults.expect, **own}
    return Rule(first, [Output(**each) for each in outputs], others=others, **options)


def _from_parts(table: Table, own: Table, defaults: RuleDefaults) -> Rule:
    problems: list[Problem] = []
    inputs = [
        collect(lambda value: _read_input(value, defaults.input), each, path, problems)
        for path, each in input_members(table)
    ]
    outputs: list[Output | None] = []
    if not isinstance(table["outputs"], list):
        problems.append(Problem("outputs", "must be an array; write outputs = [...]"))
    else:
        outputs = [
            collect(
                lambda value: _read_output(value, defaults.output),
                each,
                ("output", number),
                problems,
            )
            for number, each in enumerate(table["outputs"], 1)
        ]
    if problems:
        raise RuleError(problems)
    first, *others = filter(None, inputs)
    options = {"expect": defaults.expect, **own}
    return Rule(first, filter(None, outputs), others=others, **options)


def _read_input(value: object, defaults: Table) -> Input:
    if isinstance(value, str):
        return Input(**{**defaults, **grammar.parse_input(value)})
    return input_from_object({**defaults, **_members(value, keys.INPUT)})


def _read_output(value: object, defaults: Table) -> Output:
    if isinstance(value, str):
        return Output(**_with_output(grammar.parse_output(value), defaults))
    return output_from_object(_with_output(_members(value, keys.OUTPUT), defaults))


def _members(value: object, known: Mapping[str, keys.Key]) -> Table:
    if not isinstance(value, dict):
        raise RuleError([("", f"must be a string or a table, not {value!r}")])
    problems = [Problem(key, unknown(key, known)) for key in value if key not in known]
    missing = [key for key in ("address", "port") if key not in value]
    problems += [Problem(key, "is missing") for key in missing]
    if problems:
        raise RuleError(problems)
    return value


def _with_output(given: Table, defaults: Table) -> Table:
    """The members of an output; the default interface is for groups only, as hosts are routed."""
    if not defaults:
        return given
    if not _is_group(given.get("address")):
        defaults = {key: value for key, value in defaults.items() if key != "interface"}
    return {**defaults, **given}


def _is_group(address: object) -> bool:
    try:
        parsed = fields.destination(address)
    except Invalid:
        return False
    return not isinstance(parsed, str) and (parsed.is_multicast or parsed == fields.BROADCAST)
