"""The rules of the daemon, at a revision: those that workers have, and those set aside.

Owns revisions, the records of rules, the rules set aside, and the order of both. What a change
makes of the rules that workers have is decided in `rules.ruleset`. Resolves no host names itself.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace

from ...._native import interfaces
from ....choices import Ingress
from ....errors import ConflictError, Problem, RuleError
from ....protocol.results import RuleOrigin
from ....rules import Output, Rule
from ....rules.active_rule import ActiveRule, RuleStep, RuleTurn
from ....rules.edit import RuleEdit
from ....rules.endpoint_text import GRAMMAR_CHARACTERS
from ....rules.hostnames import HostName, HostResolver, ResolvedHosts
from ....rules.ruleset import RulePlan, RuleSet
from ....rules.shaping import NO_SHAPING, Shaping
from ....rules.spec import ResolvedInput
from .draft import Draft, RuleRecord, RuleSetAside
from .entries import EnabledRule
from .existing import check_names, differences
from .fitting import plan_fitting
from .merge import Merge, merge
from .references import aside_with, found_ids
from .shaping_merge import changed_names, merged_shaping

_MANY_OUTPUTS = 16
_AS_BEFORE: Mapping[str, RuleOrigin] = {}


class Rulebook:
    """The rules. A task that changes them holds the lock of the pool; any thread may read them."""

    def __init__(self, ingress: Ingress, *, uncounted: str | None = None) -> None:
        """Start without rules, at revision 0; `uncounted` as for `RuleSet`."""
        self.revision = 0
        self._set = RuleSet(ingress, uncounted=uncounted)
        self._records: Mapping[str, RuleRecord] = {}
        self._aside: Mapping[str, RuleSetAside] = {}
        self._order: tuple[str, ...] = ()
        self.file_shaping = Shaping()
        """The classes and rates of interfaces that the configuration wants."""

    @property
    def shaping(self) -> Shaping:
        """The classes, and the rates of interfaces; for any thread."""
        return self._set.shaping

    @property
    def order(self) -> tuple[str, ...]:
        """The ids of all rules, oldest first, including those set aside."""
        return self._order

    @property
    def aside(self) -> Mapping[str, RuleSetAside]:
        """The rules that do not fit this host, by id; replaced, never changed."""
        return self._aside

    @property
    def lines(self) -> list[bytes]:
        """The lines of all rules in the state file."""
        rules: dict[str, RuleRecord | RuleSetAside] = {**self._records, **self._aside}
        return [rules[each].line for each in self._order]

    @property
    def rules(self) -> Mapping[str, RuleRecord]:
        """The rules that workers have, by id, in their order; replaced, never changed."""
        return self._records

    @property
    def answers(self) -> ResolvedHosts:
        """The addresses of the host names in use."""
        return self._set.answers

    @property
    def by_text(self) -> dict[str, Rule]:
        """All rules by their canonical texts."""
        rules = [own.rule for own in self._records.values()]
        rules += [own.rule for own in self._aside.values()]
        return {str(rule): rule for rule in rules}

    @property
    def unfinished(self) -> tuple[ActiveRule, ...]:
        """The rules to resolve again, as something was unknown that workers do not see."""
        return self._set.unfinished

    def before(self, rule_input: ResolvedInput) -> Iterable[str]:
        """Ids of the more specific rules that match a part of an input's datagrams."""
        return self._set.before(rule_input)

    def outputs_by_text(self) -> dict[str, Output]:
        """The outputs of rules with many of them, which a request mostly leaves as they are."""
        rules = (record.rule for record in self._records.values())
        outputs = (rule.outputs for rule in rules if len(rule.outputs) >= _MANY_OUTPUTS)
        return {str(own): own for each in outputs for own in each if _has_text(own)}

    def find(self, refs: Iterable[str], *, patterns: bool = False) -> list[str]:
        """The ids of rules given by id, name, or with `patterns` also by ``A*``, each once.

        Raises:
            RpcError: there is no such rule.
        """

        def known(ref: str) -> str | None:
            rule_id = self._set.find(ref)
            if rule_id is None or rule_id not in self._records:  # during a commit
                return aside_with(ref, self._aside)
            return rule_id

        rules: dict[str, RuleRecord | RuleSetAside] = {}
        if patterns:
            rules = {**self._records, **self._aside}
        return found_ids(refs, known, {each: rules[each] for each in self._order if each in rules})

    def check(self, expected_revision: int | None) -> None:
        """Refuse a change that expects another revision; None expects any.

        Raises:
            ConflictError: the rules are at another revision.
        """
        if expected_revision is not None and expected_revision != self.revision:
            raise ConflictError(expected_revision, self.revision)

    def add(self, entries: Sequence[EnabledRule], names: HostResolver) -> Draft:
        """Add rules after the others; one that exists already is kept as it is.

        Raises:
            RuleError: with all problems.
        """
        existing: dict[str, RuleRecord | RuleSetAside] = {**self._records, **self._aside}
        entries = self._identified(entries)
        draft = self._draft(self._plan(entries, names, self._aside, keep=existing), self._aside)
        warnings = [
            str(Problem(("rule", number), warning))
            for number, entry in enumerate(entries, 1)
            if entry.rule.id in existing
            for warning in differences(entry, existing[entry.rule.id])
        ]
        return replace(draft, warnings=(*warnings, *draft.warnings))

    def remove(self, refs: Iterable[str]) -> Draft:
        """Remove rules.

        Raises:
            RpcError: there is no such rule.
        """
        ids = dict.fromkeys(self.find(refs))
        active = [each for each in ids if each in self._records]
        plan = self._set.plan(interfaces(), remove=active, names=HostResolver())
        return self._draft(
            plan, {each: own for each, own in self._aside.items() if each not in ids}
        )

    def rule(self, ref: str) -> Rule:
        """The rule that workers have with this id or name.

        Raises:
            RpcError: there is no such rule.
            RuleError: it is set aside.
        """
        (rule_id,) = self.find([ref])
        if (aside := self._aside.get(rule_id)) is not None:
            text = f"the rule does not fit this host now ({aside.why}); remove it, and add another"
            raise RuleError(text)
        return self._records[rule_id].rule

    def edit(self, ref: str, edit: RuleEdit, names: HostResolver) -> Draft:
        """Edit a rule, which keeps its id and its place.

        Raises:
            RpcError: there is no such rule.
            RuleError: with all problems.
        """
        plan = self._set.plan_edit(interfaces(), self.rule(ref).id, edit, names)
        check_names([step.after.rule for step in plan.steps], self._aside, ())
        draft = self._draft(plan, self._aside)
        return replace(draft, changed=dict.fromkeys(draft.changed, "edited"))

    def replace(self, entries: Sequence[EnabledRule], names: HostResolver) -> Draft:
        """Make these all rules, in this order.

        Raises:
            RuleError: with all problems.
        """
        entries = self._identified(entries)
        plan = self._plan(entries, names, {}, remove=self._records)
        return self._draft(plan, {}, [entry.rule.id for entry in entries])

    def reshape(self, change: Callable[[Shaping], Shaping]) -> Draft:
        """Use other classes and rates of interfaces; no rule changes.

        Raises:
            RuleError: a rule is in a class that these lack, or what `change` raises.
        """
        plan = self._set.plan(interfaces(), shaping=change(self.shaping))
        return self._draft(plan, self._aside)

    def apply(
        self,
        wanted: Sequence[EnabledRule],
        names: HostResolver,
        *,
        prune: bool,
        shaping: Shaping | None = None,
    ) -> tuple[Draft, Merge]:
        """Make the rules those of a configuration, as `merge` decides.

        Without `shaping` classes and rates of interfaces stay.

        Raises:
            RuleError: with all problems; ``rule N`` counts the wanted ones from 1.
        """
        known: dict[str, RuleRecord | RuleSetAside] = {**self._records, **self._aside}
        found = merge(known, self._identified(wanted), prune=prune)
        gone = {*found.removed, *found.changed}
        aside = {each: own for each, own in self._aside.items() if each not in gone}
        reshaped = merged_shaping(self.file_shaping, self.shaping, shaping, prune=prune)
        classes, rates = changed_names(self.shaping, reshaped)
        found = replace(found, classes=classes, interfaces=rates)
        if found.is_empty:
            plan = self._set.plan(interfaces(), names=HostResolver(), shaping=reshaped)
        else:
            remove = [each for each in self._records if each in gone]
            keep = found.unchanged
            plan = self._plan(
                found.entries, names, aside, remove=remove, keep=keep, shaping=reshaped
            )
        origins = {entry.rule.id: entry.origin for entry in found.entries}
        draft = self._draft(plan, aside, [*origins, *found.beside], origins)
        draft = replace(draft, file_shaping=shaping)
        return self._adopted(draft, found.adopted, origins), found

    def _adopted(
        self, draft: Draft, rule_ids: Sequence[str], origins: Mapping[str, RuleOrigin]
    ) -> Draft:
        """The change with another origin for rules that are otherwise as they were."""
        if not rule_ids:
            return draft
        active = {each.id: each for each in self._set.active}
        rules, aside = dict(draft.rules), dict(draft.aside)
        for each in rule_ids:
            if each in rules:
                rules[each] = rules[each].with_origin(origins[each], active[each])
            else:
                own = aside[each]
                entry = EnabledRule(own.rule, own.enabled, origin=origins[each])
                aside[each] = RuleSetAside.of(entry, own.why)
        return replace(draft, rules=rules, aside=aside, revision=self.revision + 1, moves=True)

    def enable(self, refs: Iterable[str], *, enabled: bool) -> Draft:
        """Enable or disable rules.

        Raises:
            RpcError: there is no such rule.
        """
        ids = self.find(refs)
        turned = {
            each: RuleSetAside.of(
                EnabledRule(own.rule, enabled, origin=_turned(own.origin)), own.why
            )
            for each in ids
            if (own := self._aside.get(each)) is not None and own.enabled != enabled
        }
        plan = self._set.plan_enabled((each for each in ids if each in self._records), enabled)
        draft = self._draft(plan, {**self._aside, **turned})
        turn: RuleTurn = "enabled" if enabled else "disabled"
        changed = {**draft.changed, **dict.fromkeys(turned, turn)}
        return replace(
            draft,
            revision=self.revision + bool(changed),
            kept=tuple(rule_id for rule_id in ids if rule_id not in changed),
            changed=changed,
            moves=bool(changed),
        )

    def follow(self, changed: Container[HostName], names: HostResolver) -> Draft:
        """Send to the addresses in `names` instead of the former ones of changed host names.

        Raises:
            RuleError: the rules do not fit these addresses.
        """
        plan = self._set.replan(interfaces(), self._set.using(changed), names)
        return self._draft(plan, self._aside)

    def finish(self, names: HostResolver) -> Draft:
        """Resolve the unfinished rules again, all that fit in one change.

        Raises:
            RuleError: a problem that concerns no single rule.
        """
        host = interfaces()
        ids = [each.id for each in self._set.unfinished]
        plan, _ = plan_fitting(ids, lambda fitting: self._set.replan(host, fitting, names))
        return self._draft(plan, self._aside)

    def commit(self, draft: Draft) -> None:
        """Make a change."""
        self._set.commit(draft.plan)
        self._records, self._aside, self._order = draft.rules, draft.aside, draft.order
        if draft.file_shaping is not None:
            self.file_shaping = draft.file_shaping
        self.revision = draft.revision

    def restore(
        self,
        revision: int,
        entries: Sequence[EnabledRule],
        answers: ResolvedHosts,
        shaping: Shaping = NO_SHAPING,
    ) -> Draft:
        """The rules of an earlier process, to be committed at their revision.

        Rules that workers have stay as they are there. The others are set aside, for `retry`.
        """
        active = (
            ActiveRule.of(entry.rule, entry.resolved, enabled=entry.enabled)
            for entry in entries
            if entry.resolved is not None
        )
        aside = {
            entry.rule.id: RuleSetAside.of(entry, "not tried yet")
            for entry in entries
            if entry.resolved is None
        }
        plan = self._set.restore(active, answers, shaping)
        origins = {entry.rule.id: entry.origin for entry in entries}
        draft = self._draft(plan, aside, list(origins), origins)
        return replace(draft, revision=revision)

    def retry(self, rule_ids: Iterable[str], names: HostResolver) -> Draft:
        """Add those of the rules set aside that fit now, in their places.

        Raises:
            RuleError: a problem that concerns no single rule.
        """
        waiting = [self._aside[each] for each in rule_ids if each in self._aside]
        entries = [EnabledRule(own.rule, own.enabled, origin=own.origin) for own in waiting]
        plan, refused = plan_fitting(
            entries, lambda fitting: self._plan(fitting, names, self._aside)
        )
        again = {entry.rule.id: RuleSetAside.of(entry, why) for entry, why in refused}
        return self._draft(plan, {**self._aside, **again})

    def _identified(self, entries: Sequence[EnabledRule]) -> list[EnabledRule]:
        """These rules; those that a rule was edited to be have its id."""
        rules = self._set.identified(entry.rule for entry in entries)
        return [
            entry if rule is entry.rule else entry._replace(rule=rule)
            for entry, rule in zip(entries, rules, strict=True)
        ]

    def _plan(
        self,
        entries: Sequence[EnabledRule],
        names: HostResolver,
        aside: Mapping[str, RuleSetAside],
        *,
        remove: Iterable[str] = (),
        keep: Container[str] = (),
        shaping: Shaping | None = None,
    ) -> RulePlan:
        rules = [entry.rule for entry in entries]
        check_names(rules, aside, keep)
        enabled = {entry.rule.id: entry.enabled for entry in entries}
        return self._set.plan(
            interfaces(),
            remove=remove,
            add=rules,
            keep=keep,
            enabled=enabled,
            names=names,
            shaping=shaping,
        )

    def _draft(
        self,
        plan: RulePlan,
        aside: Mapping[str, RuleSetAside],
        order: Sequence[str] | None = None,
        origins: Mapping[str, RuleOrigin] = _AS_BEFORE,
    ) -> Draft:
        """All rules after a change.

        Args:
            plan: the change of the rules that workers have.
            aside: the rules set aside, without those that the change removes.
            order: the ids of rules in their new order; the others follow. By default rules keep
                their places, and new ones follow.
            origins: where rules come from, by id; others keep theirs, and new ones are a client's.
        """
        added, changed = plan.added, plan.changed
        fresh = {step.after.id: self._record(step, origins) for step in plan.fresh}
        rules = {**self._records, **fresh}
        for rule_id in plan.removed:
            del rules[rule_id]
        aside = {each: own for each, own in aside.items() if each not in fresh}
        dropped = tuple(each for each in self._aside if each not in aside and each not in fresh)
        keeps_places = order is None and self._aside.keys().isdisjoint(added)
        if keeps_places and not plan.removed and not dropped:
            order = (*self._order, *added)
        else:
            places = dict.fromkeys((*(self._order if order is None else order), *rules, *aside))
            order = tuple(each for each in places if each in rules or each in aside)
            rules = {each: rules[each] for each in order if each in rules}
            aside = {each: aside[each] for each in order if each in aside}
            plan = replace(plan, order=tuple(rules))
        changes = added or plan.removed or dropped or changed or plan.shaping
        moves = bool(changes) or order != self._order
        return Draft(
            revision=self.revision + moves,
            plan=plan,
            rules=rules,
            aside=aside,
            order=order,
            added=added,
            dropped=dropped,
            kept=plan.kept,
            changed=changed,
            warnings=plan.warnings,
            moves=moves,
        )

    def _record(self, step: RuleStep, origins: Mapping[str, RuleOrigin]) -> RuleRecord:
        rule_id = step.after.id
        before = self._records.get(rule_id)
        if before is None:
            waiting = self._aside.get(rule_id)
            own = "client" if waiting is None else waiting.origin
            return RuleRecord.of(step.after, origins.get(rule_id, own))
        rule = step.after.rule
        is_turned = before.enabled != step.after.enabled or (
            rule.is_edited and rule is not before.rule
        )
        own = _turned(before.origin) if is_turned else before.origin
        return before.after(step, origins.get(rule_id, own))


def _turned(origin: RuleOrigin) -> RuleOrigin:
    """The origin of a rule that a client has enabled, disabled or edited."""
    return "client" if origin == "client" else "run time"


def _has_text(output: Output) -> bool:
    """Whether its text reads as this output: no interface's name has a character of the grammar."""
    return set(output.interface or "").isdisjoint(GRAMMAR_CHARACTERS)
