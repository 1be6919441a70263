"""Rules as clients and files bring them, as `mcr.Rule`s, and back.

Owns the way between rule objects and rules. What fits this host is the business of `rulebook`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from ....errors import Problem, RuleError
from ....rules import Rule
from ....rules.objects import rule_from_object
from ....rules.spec import ResolvedRule
from .. import limits
from ..api.params import AnyEntry, RuleEntry, RuleObject
from ..api.pydantic_problems import problems_of

_ENTRY: TypeAdapter[str | RuleObject | RuleEntry] = TypeAdapter(AnyEntry)
_SLICE = 100


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
                self._problems += [problem.under("rule", self._read) for problem in error.problems]
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
    rule = Rule.parse(given) if isinstance(given, str) else rule_from_object(given.model_dump())
    return EnabledRule(rule, enabled)
