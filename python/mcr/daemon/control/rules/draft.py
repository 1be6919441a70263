"""A change of the rules that was found right, and the rules as they stand in it.

Owns what is told and kept of each rule, made once. How a change is judged is the business of
`rulebook`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

from ....rules import Rule
from ....rules.hostnames import ResolvedHosts
from ....rules.ruleset import RulePlan
from ....rules.spec import ResolvedRule, spec_members
from .entries import EnabledRule
from .snapshot import line_of

Turn = Literal["enabled", "disabled", "replaced"]
"""What can become of a rule that stays."""


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """A rule as the daemon has it, with what is sent and kept of it made once."""

    rule: Rule
    resolved: ResolvedRule
    enabled: bool
    tail: bytes
    """What workers are told of it."""
    line: bytes
    """What is kept of it."""

    @classmethod
    def of(cls, entry: EnabledRule, resolved: ResolvedRule) -> Self:
        """A rule that fits this host."""
        line = line_of(EnabledRule(entry.rule, entry.enabled, resolved))
        return cls(entry.rule, resolved, entry.enabled, spec_members(resolved), line)

    def turned(self, *, enabled: bool) -> Self:
        """The same, enabled or not."""
        line = line_of(EnabledRule(self.rule, enabled, self.resolved))
        return replace(self, enabled=enabled, line=line)

    def turn_to(self, after: Self) -> Turn | None:
        """What becomes of it; None where nothing does."""
        if self.enabled != after.enabled:
            return "enabled" if after.enabled else "disabled"
        if self.rule != after.rule or self.resolved != after.resolved:
            return "replaced"
        return None

    def is_news_after(self, before: Self | None) -> bool:
        """Whether workers must be told; a name is not their business."""
        return before is None or before.enabled != self.enabled or before.tail != self.tail


@dataclass(frozen=True, slots=True)
class RuleSetAside:
    """A rule of an earlier process that does not fit this host now: it is tried again.

    As after a boot, before the host has its addresses.
    """

    rule: Rule
    enabled: bool
    why: str
    line: bytes

    @classmethod
    def of(cls, entry: EnabledRule, why: str) -> Self:
        """A rule that does not fit."""
        return cls(entry.rule, entry.enabled, why, line_of(entry))


@dataclass(frozen=True, slots=True)
class Draft:
    """A change that was found right and is not made yet."""

    revision: int
    """After it."""
    plan: RulePlan | None
    rules: Mapping[str, RuleRecord]
    """All rules after it, in their order."""
    send: tuple[str, ...]
    """Ids of the rules that workers must be told anew."""
    added: tuple[str, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    changed: Mapping[str, Turn]
    warnings: tuple[str, ...]
    answers: ResolvedHosts
    """The addresses of the host names in use after it."""
    moves: bool
    """Whether something is different after it."""
    aside: Mapping[str, RuleSetAside]
    """The rules that do not fit this host, after it."""
    order: tuple[str, ...]
    """The ids of all rules after it, those that are aside among them."""
    dropped: tuple[str, ...] = ()
    """Ids of rules that were aside and are gone; workers never had them."""


Change = Callable[[], Draft]
"""Finds a change right, or raises; called in the thread that judges rules."""
