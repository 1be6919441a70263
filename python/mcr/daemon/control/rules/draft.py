"""A checked change of the rules, not yet made.

Owns the record of each rule: its forms for workers and for the state file, encoded once. What a
change makes of the rules is decided in `rules.ruleset` and `rulebook`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Self

from ...._native import output_keys
from ....protocol.results import RuleOrigin
from ....rules import Rule
from ....rules.active_rule import ActiveRule, RuleStep, RuleTurn
from ....rules.layout import Layout, arranged, new_outputs
from ....rules.ruleset import RulePlan
from ....rules.shaping import Shaping
from ....rules.spec import ResolvedRule, output_spec, rule_spec, spec_members
from ..api.errors import cut
from .entries import EnabledRule
from .snapshot import line_of

_KEY_BYTES = 8
_TITLE_CHARS = 200


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """A rule that workers have, with its encoded forms."""

    rule: Rule
    resolved: ResolvedRule
    enabled: bool
    specs: tuple[bytes, ...]
    """The specification of each output for workers."""
    members_bytes: int
    """The length of `members`."""
    origin: RuleOrigin
    line: bytes
    """Its line in the state file."""
    keys: bytes
    """Those of its outputs, by which their counters are found."""

    @classmethod
    def of(
        cls, active: ActiveRule, origin: RuleOrigin = "client", keys: bytes | None = None
    ) -> Self:
        """Encode a rule.

        Args:
            active: the rule.
            origin: where it comes from.
            keys: those of its outputs, if they are known.
        """
        rule, resolved, enabled = active.rule, active.resolved, active.enabled
        line = line_of(EnabledRule(rule, enabled, resolved, origin), active.specs)
        members = active.members
        if keys is None:
            keys = output_keys(rule_spec(active.id, members, enabled=enabled))
        return cls(rule, resolved, enabled, active.specs, len(members), origin, line, keys)

    def after(self, step: RuleStep, origin: RuleOrigin) -> Self:
        """The record after a change of the rule."""
        if step.keeps_spec:
            return self.of(step.after, origin, self.keys)
        layout = step.layout
        keys = None if layout is None else self._keys_after(step, layout)
        return self.of(step.after, origin, keys)

    def with_origin(self, origin: RuleOrigin, active: ActiveRule) -> Self:
        """The record of the same rule, from elsewhere."""
        return self.of(active, origin, self.keys)

    @property
    def title(self) -> str:
        """Its name, or its text, as far as a message shows it."""
        return self.rule.name or cut(str(self.rule), _TITLE_CHARS)

    @property
    def members(self) -> bytes:
        """The members of its specification for workers."""
        return spec_members(self.resolved, self.specs)

    def _keys_after(self, step: RuleStep, layout: Layout) -> bytes | None:
        """The keys after an edit; None where an output without an address has one by its place."""
        after = step.after
        if after.host is None and not after.resolved.is_final:
            return None
        new = new_outputs(layout, after.resolved)
        specs = map(output_spec, chain(*new.values()))
        members = spec_members(after.resolved, specs)
        fresh = _chunks(output_keys(rule_spec(after.id, members, enabled=True)))
        keys = {place: list(islice(fresh, len(outputs))) for place, outputs in new.items()}
        before = tuple(_chunks(self.keys))
        return b"".join(arranged(layout, before, keys))


def _chunks(keys: bytes) -> Iterator[bytes]:
    """The key of each output."""
    return (keys[at : at + _KEY_BYTES] for at in range(0, len(keys), _KEY_BYTES))


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
    file_shaping: Shaping | None = None
    """The classes and rates of interfaces that a configuration wants; None for another change."""

    @property
    def removed(self) -> tuple[str, ...]:
        """Ids of removed rules that workers had."""
        return self.plan.removed

    @property
    def sent(self) -> tuple[str, ...]:
        """Ids of the rules that workers must have again, or for the first time."""
        return tuple(step.after.id for step in self.plan.sent)

    def title_of(self, rule_id: str) -> str:
        """The name of a rule, or its text: clients do not know the id of one that is refused."""
        record = self.rules.get(rule_id)
        return rule_id if record is None else record.title


Change = Callable[[], Draft]
"""Checks a change, or raises; called in the thread that checks rules."""
