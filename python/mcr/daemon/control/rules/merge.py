"""What a configuration makes of the rules, before any of it is checked on this host.

The configuration is what is wanted. What clients have added stays beside it, and what they have
enabled, disabled or edited stays so, unless all of that is to be pruned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ....errors import Problem, RuleError
from ....protocol.results import ConfigurationResult, RuleDifference, RuleForm
from .draft import Draft, RuleRecord, RuleSetAside
from .entries import EnabledRule

KnownRules = Mapping[str, RuleRecord | RuleSetAside]


@dataclass(frozen=True, slots=True)
class Merge:
    """A configuration beside the rules that a daemon has."""

    before: KnownRules
    entries: Sequence[EnabledRule]
    """The rules of the configuration, as they are afterwards."""
    unchanged: frozenset[str]
    adopted: tuple[str, ...]
    """Ids of rules that a client had added, and that the configuration has as well."""
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    beside: tuple[str, ...]
    """Ids of rules that clients have added, and that stay."""
    overruled: tuple[str, ...]
    """Ids of rules that stay enabled, disabled or edited as at run time."""
    classes: tuple[str, ...] = ()
    """The names of classes that differ."""
    interfaces: tuple[str, ...] = ()
    """The names of interfaces whose rates differ."""

    @property
    def is_empty(self) -> bool:
        """Whether no rule is added, changed or removed."""
        return not self.removed and len(self.unchanged) == len(self.entries)

    def result(self, draft: Draft, revision: int, *, dry_run: bool) -> ConfigurationResult:
        """What it changes; a removed and an added rule with one name are a changed one."""
        after = {entry.rule.id: entry for entry in self.entries if entry.rule.id in draft.rules}
        added = {each: after[each] for each in draft.added if each not in self.before}
        successors = {entry.rule.name: each for each, entry in added.items() if entry.rule.name}
        changed = [self._difference(each, each, after) for each in self.changed]
        removed = list[RuleDifference]()
        for each in self.removed:
            name = self.before[each].rule.name
            successor = None if name is None else successors.get(name)
            difference = self._difference(each, successor, after)
            (removed if successor is None else changed).append(difference)
            added.pop(successor or "", None)
        return ConfigurationResult(
            revision=revision,
            dry_run=dry_run,
            added=tuple(self._difference(None, each, after) for each in added),
            changed=tuple(changed),
            removed=tuple(removed),
            unchanged=len(self.unchanged),
            beside=self.beside,
            overruled=self.overruled,
            warnings=draft.warnings,
            classes=self.classes,
            interfaces=self.interfaces,
            staying=tuple(map(self._staying, (*self.beside, *self.overruled))),
        )

    def _staying(self, rule_id: str) -> RuleDifference:
        own = self.before[rule_id]
        form = RuleForm(str(own.rule), own.enabled)
        return RuleDifference(rule_id, own.rule.name, form, form)

    def _difference(
        self, before_id: str | None, after_id: str | None, after: Mapping[str, EnabledRule]
    ) -> RuleDifference:
        old = None if before_id is None else self.before[before_id]
        new = None if after_id is None else after[after_id]
        rules = [each.rule for each in (new, old) if each is not None]
        return RuleDifference(
            id=rules[0].id,
            name=rules[0].name,
            before=None if old is None else RuleForm(str(old.rule), old.enabled),
            after=None if new is None else RuleForm(str(new.rule), new.enabled),
        )


def merge(before: KnownRules, wanted: Sequence[EnabledRule], *, prune: bool) -> Merge:
    """Compare the rules of a configuration with those that there are.

    Args:
        before: all rules.
        wanted: the rules of the configuration.
        prune: whether to forget what was changed at run time.

    Raises:
        RuleError: a rule is listed twice.
    """
    _refuse_doubles(wanted)
    entries, unchanged = list[EnabledRule](), set[str]()
    adopted, changed, overruled = list[str](), list[str](), list[str]()
    for entry in wanted:
        rule_id = entry.rule.id
        own = before.get(rule_id)
        if own is not None and not prune and _is_overruled(own, entry):
            overruled.append(rule_id)
            rule = own.rule if own.rule.is_edited else entry.rule
            entry = EnabledRule(rule, own.enabled, origin="run time")  # noqa: PLW2901
        else:
            entry = entry._replace(origin="file")  # noqa: PLW2901
        entries.append(entry)
        if own is None:
            continue
        if own.enabled == entry.enabled and (own.rule is entry.rule or own.rule == entry.rule):
            unchanged.add(rule_id)
            if own.origin != entry.origin:
                adopted.append(rule_id)
        else:
            changed.append(rule_id)
    ids = {entry.rule.id for entry in entries}
    beside, removed = list[str](), list[str]()
    for each, own in before.items():
        if each not in ids:
            (beside if own.origin == "client" and not prune else removed).append(each)
    return Merge(
        before,
        entries,
        frozenset(unchanged),
        tuple(adopted),
        tuple(changed),
        tuple(removed),
        tuple(beside),
        tuple(overruled),
    )


def _is_overruled(own: RuleRecord | RuleSetAside, entry: EnabledRule) -> bool:
    """Whether a rule of a configuration was enabled, disabled or edited at run time."""
    is_edited = own.rule.is_edited and own.rule != entry.rule
    return own.origin == "run time" and (own.enabled != entry.enabled or is_edited)


def _refuse_doubles(wanted: Sequence[EnabledRule]) -> None:
    numbers: dict[str, int] = {}
    problems = []
    for number, entry in enumerate(wanted, 1):
        first = numbers.setdefault(entry.rule.id, number)
        if first != number:
            problems.append(Problem(("rule", number), f"is the same as rule {first}; omit one"))
    if problems:
        raise RuleError(problems)
