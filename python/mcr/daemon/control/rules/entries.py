"""Rules in requests and files, converted to `mcr.Rule`s.

Owns the conversion of text and objects. Whether rules fit this host is checked in `rulebook`.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from ....config.reader import WantedRule
from ....errors import Problem, RuleError
from ....protocol.results import RuleOrigin
from ....rules import Output, Rule
from ....rules.edit import RuleEdit
from ....rules.objects import output_from_object, rule_from_object
from ....rules.spec import ResolvedRule
from .. import limits
from ..api.params import AnyEntry, EditParams, RuleEntry, RuleObject
from ..api.pydantic_problems import problems_of

_ENTRY: TypeAdapter[str | RuleObject | RuleEntry] = TypeAdapter(AnyEntry)
_SLICE = 100
_NOTHING: Mapping[str, Rule] = MappingProxyType({})


class EnabledRule(NamedTuple):
    """A rule, and whether it is enabled."""

    rule: Rule
    enabled: bool
    resolved: ResolvedRule | None = None
    """The rule as workers have it from an earlier process; never from a client."""
    origin: RuleOrigin = "client"


class EntryReader:
    """Converts decoded JSON: text, objects, or either with `enabled` beside it; and wanted rules.

    It works in slices, so that thousands of rules from one client do not delay other clients.
    """

    def __init__(
        self,
        values: Sequence[object],
        *,
        enabled: bool = True,
        known: Callable[[], Mapping[str, Output]] = dict,
        rules: Mapping[str, Rule] = _NOTHING,
    ) -> None:
        """Convert nothing yet.

        Args:
            values: the decoded rules.
            enabled: whether rules without `enabled` are enabled.
            known: returns outputs by their text, for rules that have them too.
            rules: rules by their text, which are not read again.
        """
        self._rules = rules
        self._list_known = known
        self._known: Mapping[str, Output] | None = None
        self._values = values
        self._enabled = enabled
        self._read = 0
        self._entries: list[EnabledRule] = []
        self._problems: list[Problem] = []

    def read_slice(self) -> bool:
        """Convert one slice; return whether another one remains."""
        if self._known is None:
            self._known = self._list_known()
        for value in self._values[self._read : self._read + _SLICE]:
            self._read += 1
            try:
                self._entries.append(self._entry(value, self._known))
            except RuleError as error:
                self._problems += [problem.under("rule", self._read) for problem in error.problems]
        return self._read < len(self._values) and len(self._problems) <= limits.PROBLEMS

    def _entry(self, value: object, known: Mapping[str, Output]) -> EnabledRule:
        enabled = self._enabled
        if isinstance(value, WantedRule):
            enabled = value.enabled
            value = value.rule
        if isinstance(value, str):
            return EnabledRule(self._rules.get(value) or Rule.parse(value, known), enabled)
        if isinstance(value, Rule):
            return EnabledRule(value, enabled)
        return read_entry(value, enabled=enabled, known=known)

    def entries(self) -> list[EnabledRule]:
        """The converted rules.

        Raises:
            RuleError: with all problems, each under `rule N`, counted from 1.
        """
        if self._problems:
            raise RuleError(self._problems)
        return self._entries


def read_edit(given: EditParams) -> RuleEdit:
    """Convert the parameters of an edit.

    Raises:
        RuleError: with all problems.
    """
    added: list[Output | str] = []
    problems: list[Problem] = []
    for number, each in enumerate(given.add_outputs, 1):
        try:
            added.append(
                Output.parse(each)
                if isinstance(each, str)
                else output_from_object(each.model_dump())
            )
        except RuleError as error:
            problems += [problem.under("add_output", number) for problem in error.problems]
    if problems:
        raise RuleError(problems)
    return RuleEdit.of(
        given.options.model_dump(exclude_unset=True),
        set_outputs={
            each.output: each.options.model_dump(exclude_unset=True) for each in given.set_outputs
        },
        add_outputs=added,
        remove_outputs=given.remove_outputs,
    )


def read_entries(values: Sequence[object], *, enabled: bool) -> list[EnabledRule]:
    """Convert all values at once, as `EntryReader` does.

    Raises:
        RuleError: with all problems, each under `rule N`, counted from 1.
    """
    reader = EntryReader(values, enabled=enabled)
    while reader.read_slice():
        pass
    return reader.entries()


def read_entry(
    value: object, *, enabled: bool, known: Mapping[str, Output] = MappingProxyType({})
) -> EnabledRule:
    """Convert one value.

    Args:
        value: the decoded rule.
        enabled: applies to a rule without that member.
        known: outputs by their text, for a rule that has them too.

    Raises:
        RuleError: with all problems.
    """
    try:
        given = _ENTRY.validate_python(value)
    except ValidationError as error:
        raise RuleError(problems_of(error, None)) from None
    if isinstance(given, RuleEntry):
        enabled = enabled if given.enabled is None else given.enabled
        given = given.rule
    if isinstance(given, str):
        return EnabledRule(Rule.parse(given, known), enabled)
    return EnabledRule(rule_from_object(given.model_dump(by_alias=True)), enabled)
