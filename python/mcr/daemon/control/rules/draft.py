"""A checked change of the rules, not yet made.

Owns the record of each rule: its forms for workers and for the state file, encoded once. What a
change makes of the rules is decided in `rules.ruleset` and `rulebook`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from ...._native import output_keys
from ....protocol.results import RuleOrigin
from ....rules import Rule
from ....rules.active_rule import ActiveRule, RuleStep, RuleTurn
from ....rules.ruleset import RulePlan
from ....rules.spec import ResolvedRule
from .entries import EnabledRule
from .snapshot import line_of


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """A rule that workers have, with its encoded forms."""

    rule: Rule
    resolved: ResolvedRule
    enabled: bool
    members: bytes
    """The members of its specification for workers."""
    origin: RuleOrigin
    line: bytes
    """Its line in the state file."""
    keys: bytes
    """Those of its outputs, by which their counters are found."""

    @classmethod
    def of(
        cls, active: ActiveRule, origin: RuleOrigin = "client", members: bytes | None = None
    ) -> Self:
        """Encode a rule.

        Args:
            active: the rule.
            origin: where it comes from.
            members: those of its specification, if they are encoded already.
        """
        rule, resolved, enabled = active.rule, active.resolved, active.enabled
        line = line_of(EnabledRule(rule, enabled, resolved, origin), active.specs)
        keys = output_keys(active.spec)
        members = members or active.members
        return cls(rule, resolved, enabled, members, origin, line, keys)

    def after(self, step: RuleStep, origin: RuleOrigin) -> Self:
        """The record after a change of the rule."""
        return self.of(step.after, origin, self.members if step.keeps_spec else None)

    def with_origin(self, origin: RuleOrigin, active: ActiveRule) -> Self:
        """The record of the same rule, from elsewhere."""
        return self.of(active, origin, self.members)


@dataclass(frozen=True, slots=True)
class RuleSetAside:
    """A rule of an earlier process that does not fit this host now; it is tried again.

    For example, after a boot, before the host has its addresses.
    """

    rule: Rule
    enabled: bool
    why: str
    origin: RuleOrigin
    line: bytes
    """Its line in the state file."""

    @classmethod
    def of(cls, entry: EnabledRule, why: str) -> Self:
        """Encode a rule that does not fit."""
        return cls(entry.rule, entry.enabled, why, entry.origin, line_of(entry))


@dataclass(frozen=True, slots=True)
class Draft:
    """A checked change, and all rules as they are after it."""

    revision: int
    """The revision after it."""
    plan: RulePlan
    """The change of the rules that workers have."""
    rules: Mapping[str, RuleRecord]
    """The rules that workers have after it, in their order."""
    aside: Mapping[str, RuleSetAside]
    """The rules that do not fit this host, after it."""
    order: tuple[str, ...]
    """The ids of all rules after it, including those set aside."""
    added: tuple[str, ...]
    dropped: tuple[str, ...]
    """Ids of removed rules that were set aside; workers never had them."""
    kept: tuple[str, ...]
    changed: Mapping[str, RuleTurn]
    warnings: tuple[str, ...]
    moves: bool
    """Whether anything is different after it."""

    @property
    def removed(self) -> tuple[str, ...]:
        """Ids of removed rules that workers had."""
        return self.plan.removed

    @property
    def sent(self) -> tuple[str, ...]:
        """Ids of the rules that workers must have again, or for the first time."""
        return tuple(each.id for each in self.plan.sent)


Change = Callable[[], Draft]
"""Checks a change, or raises; called in the thread that checks rules."""
