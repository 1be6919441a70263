"""The rules that the daemon has: enabled or not, in their order, at one revision.

Owns what a change makes of them, before anybody is told. Knows neither workers nor clients; looks
no host name up that it is given the addresses of.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ...._native import interfaces
from ....choices import Ingress
from ....errors import ConflictError, Problem, RuleError
from ....protocol.constants import ErrorCode
from ....rules import Rule
from ....rules.hostnames import HostName, HostResolver, ResolvedHosts, uses
from ....rules.ruleset import RulePlan, RuleSet
from ....rules.spec import ResolvedInput, ResolvedRule
from ..api.errors import RpcError, cut
from .draft import Draft, RuleRecord, RuleSetAside, Turn
from .entries import EnabledRule


class Rulebook:
    """The rules. Whoever changes them holds the pool's lock; anybody may read them."""

    def __init__(self, ingress: Ingress) -> None:
        """Start without rules, at revision 0."""
        self.revision = 0
        self.answers: ResolvedHosts = {}
        self._set = RuleSet(ingress)
        self._held: Mapping[str, RuleRecord] = {}
        self._aside: Mapping[str, RuleSetAside] = {}
        self._order: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[str, ...]:
        """The ids of all rules, oldest first, those that are aside among them."""
        return self._order

    @property
    def aside(self) -> Mapping[str, RuleSetAside]:
        """Those that do not fit this host; never changed in place."""
        return self._aside

    @property
    def lines(self) -> list[bytes]:
        """What is kept of all rules."""
        rules: dict[str, RuleRecord | RuleSetAside] = {**self._held, **self._aside}
        return [rules[each].line for each in self._order]

    @property
    def rules(self) -> Mapping[str, RuleRecord]:
        """By id, in their order; never changed in place."""
        return self._held

    def before(self, taken: ResolvedInput) -> Iterable[str]:
        """Ids of the more specific rules that have a part of what is for an input."""
        return self._set.before(taken)

    @property
    def unfinished(self) -> list[EnabledRule]:
        """The rules that wait for a host name, or for an address that decides how they listen."""
        waiting = (held for held in self._held.values() if not held.resolved.is_final)
        return [EnabledRule(held.rule, held.enabled) for held in waiting]

    def specs(self) -> list[tuple[str, bool, bytes]]:
        """What workers are told of all rules."""
        return [(rule_id, held.enabled, held.tail) for rule_id, held in self._held.items()]

    def find(self, refs: Iterable[str]) -> list[str]:
        """The ids of rules that are given by id or name, each once.

        Raises:
            RpcError: there is no such rule.
        """
        found: dict[str, None] = {}
        missing: list[str] = []
        for ref in refs:
            rule_id = self._set.find(ref)
            if rule_id is None or rule_id not in self._held:  # a change is being made real
                rule_id = self._find_aside(ref)
            if rule_id is None:
                missing.append(ref)
            else:
                found[rule_id] = None
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            message = f"there is no rule with the id or name {cut(missing[0])!r}{more}"
            raise RpcError(ErrorCode.NO_SUCH_RULE, message)
        return list(found)

    def check(self, expected_revision: int | None) -> None:
        """Refuse a change that was meant for other rules.

        Raises:
            ConflictError: the rules are at another revision.
        """
        if expected_revision is not None and expected_revision != self.revision:
            raise ConflictError(expected_revision, self.revision)

    def add(self, entries: Sequence[EnabledRule], names: HostResolver) -> Draft:
        """Add rules behind the others; one that is there already is kept and not touched.

        Raises:
            RuleError: with everything that is wrong with them.
        """
        there: dict[str, RuleRecord | RuleSetAside] = {**self._held, **self._aside}
        draft = self._planned((), entries, names, self._aside, keep=there)
        again = {number: each for number, each in enumerate(entries, 1) if each.rule.id in there}
        warnings = [
            str(Problem(("rule", number), warning))
            for number, entry in again.items()
            for warning in _differences(entry, there[entry.rule.id])
        ]
        kept = tuple(entry.rule.id for entry in again.values())
        return replace(draft, kept=kept, warnings=(*warnings, *draft.warnings))

    def remove(self, refs: Iterable[str]) -> Draft:
        """Remove rules.

        Raises:
            RpcError: there is no such rule.
        """
        ids = self.find(refs)
        aside = {each: kept for each, kept in self._aside.items() if each not in ids}
        held = [each for each in ids if each in self._held]
        return self._planned(held, (), HostResolver(known=self.answers), aside)

    def replace(self, entries: Sequence[EnabledRule], names: HostResolver) -> Draft:
        """Let these be all rules, in this order.

        Raises:
            RuleError: with everything that is wrong with them.
        """
        return self._planned(list(self._held), entries, names, {}, order=())

    def enable(self, refs: Iterable[str], *, enabled: bool) -> Draft:
        """Let rules relay, or not.

        Raises:
            RpcError: there is no such rule.
        """
        turn: Turn = "enabled" if enabled else "disabled"
        ids = self.find(refs)
        turned = {
            each: self._held[each].turned(enabled=enabled)
            for each in ids
            if each in self._held and self._held[each].enabled != enabled
        }
        turned_aside = {
            each: RuleSetAside.of(
                EnabledRule(self._aside[each].rule, enabled), self._aside[each].why
            )
            for each in ids
            if each in self._aside and self._aside[each].enabled != enabled
        }
        changed = (*turned, *turned_aside)
        return Draft(
            revision=self.revision + bool(changed),
            plan=None,
            rules={**self._held, **turned},
            send=tuple(turned),
            added=(),
            removed=(),
            kept=tuple(rule_id for rule_id in ids if rule_id not in changed),
            changed=dict.fromkeys(changed, turn),
            warnings=(),
            answers=self.answers,
            moves=bool(changed),
            aside={**self._aside, **turned_aside},
            order=self._order,
        )

    def follow(self, changed: Container[HostName], names: HostResolver) -> Draft:
        """Send what goes to host names that have changed to their addresses in `names`.

        Raises:
            RuleError: the rules do not fit these addresses.
        """
        followers = [held for held in self._held.values() if uses(held.rule, changed)]
        entries = [EnabledRule(held.rule, held.enabled) for held in followers]
        ids = [held.rule.id for held in followers]
        return self._planned(ids, entries, names, self._aside)

    def finish(self, names: HostResolver) -> Draft:
        """Resolve anew what is unfinished, as far as it fits; the rest waits on.

        Raises:
            RuleError: something is wrong that no rule is to blame for.
        """
        waiting = self.unfinished
        while True:
            ids = [entry.rule.id for entry in waiting]
            try:
                return self._planned(ids, waiting, names, self._aside)
            except RuleError as error:
                blamed = _blamed(error)
                if not blamed:
                    raise
                waiting = [entry for at, entry in enumerate(waiting) if at not in blamed]

    def commit(self, draft: Draft) -> None:
        """Make a change real."""
        if draft.plan is not None:
            self._set.commit(draft.plan)
            self._set.arrange(draft.rules)
        self._held, self._aside, self._order = draft.rules, draft.aside, draft.order
        self.answers = draft.answers
        self.revision = draft.revision

    def restore(
        self, revision: int, entries: Sequence[EnabledRule], answers: ResolvedHosts
    ) -> Draft:
        """The rules that an earlier process had, to be committed at their revision.

        What workers run of them stays as it is. The others are set aside, to be tried by `retry`.
        """
        order = [entry.rule.id for entry in entries]
        running = [entry for entry in entries if entry.resolved is not None]
        others = (entry for entry in entries if entry.resolved is None)
        aside = {entry.rule.id: RuleSetAside.of(entry, "not tried yet") for entry in others}
        plan = self._set.restore((each.rule, each.resolved) for each in running if each.resolved)
        draft = self._drafted(plan, running, HostResolver(known=answers), aside, order)
        return replace(draft, revision=revision)

    def retry(self, rule_ids: Iterable[str], names: HostResolver) -> Draft:
        """Take up those of the rules that were set aside which fit now.

        Raises:
            RuleError: something is wrong with them that no rule is to blame for.
        """
        waiting = [self._aside[each] for each in rule_ids if each in self._aside]
        entries = [EnabledRule(kept.rule, kept.enabled) for kept in waiting]
        return self._fitting(entries, names, self._aside, self._order)

    def _fitting(
        self,
        entries: Iterable[EnabledRule],
        names: HostResolver,
        aside: Mapping[str, RuleSetAside],
        order: Iterable[str],
    ) -> Draft:
        """As many of the rules as fit; the others are set aside."""
        fitting, aside = list(entries), dict(aside)
        while True:
            try:
                return self._planned((), fitting, names, aside, order=order)
            except RuleError as error:
                blamed = _blamed(error)
                if not blamed:
                    raise
                aside |= {
                    fitting[at].rule.id: RuleSetAside.of(fitting[at], why)
                    for at, why in blamed.items()
                }
                fitting = [entry for at, entry in enumerate(fitting) if at not in blamed]

    def _find_aside(self, ref: str) -> str | None:
        if ref in self._aside:
            return ref
        return next((each for each, kept in self._aside.items() if kept.rule.name == ref), None)

    def _planned(
        self,
        remove: Sequence[str],
        entries: Sequence[EnabledRule],
        names: HostResolver,
        aside: Mapping[str, RuleSetAside],
        *,
        order: Iterable[str] | None = None,
        keep: Container[str] = (),
    ) -> Draft:
        """Judge a change.

        Rules keep their place in `order`, unless given that which they have; those of `keep` stay
        as they are.
        """
        rules = [entry.rule for entry in entries]
        _check_names(rules, aside, keep)
        plan = self._set.plan(interfaces(), remove=remove, add=rules, keep=keep, names=names)
        coming = [entry for entry in entries if entry.rule.id not in keep]
        return self._drafted(plan, coming, names, aside, order)

    def _drafted(
        self,
        plan: RulePlan,
        entries: Sequence[EnabledRule],
        names: HostResolver,
        aside: Mapping[str, RuleSetAside],
        order: Iterable[str] | None,
    ) -> Draft:
        """What a plan makes of all rules."""
        coming = {
            entry.rule.id: self._held_for(entry, resolved)
            for entry, resolved in zip(entries, plan.resolved, strict=True)
        }
        gone = set(plan.removed)
        after = {each: held for each, held in self._held.items() if each not in gone} | coming
        stays = {each: held for each, held in coming.items() if each in gone}
        turns = ((each, self._held[each].turn_to(held)) for each, held in stays.items())
        changed = {each: turn for each, turn in turns if turn is not None}
        added = tuple(each for each in coming if each not in gone)
        removed = tuple(each for each in plan.removed if each not in coming)
        news = (each for each, held in coming.items() if held.is_news_after(self._held.get(each)))
        left = {each: kept for each, kept in aside.items() if each not in coming}
        dropped = tuple(each for each in self._aside if each not in left and each not in coming)
        places = dict.fromkeys((*(self._order if order is None else order), *after, *left))
        arranged = tuple(each for each in places if each in after or each in left)
        moves = bool(added or removed or dropped or changed) or arranged != self._order
        return Draft(
            revision=self.revision + moves,
            plan=plan,
            rules={each: after[each] for each in arranged if each in after},
            send=tuple(news),
            added=added,
            removed=removed,
            kept=tuple(each for each in stays if each not in changed),
            changed=changed,
            warnings=plan.warnings,
            answers=self._answers_for([held.rule for held in after.values()], names),
            moves=moves,
            aside={each: left[each] for each in arranged if each in left},
            order=arranged,
            dropped=dropped,
        )

    def _answers_for(self, rules: Sequence[Rule], names: HostResolver) -> ResolvedHosts:
        """What is known of the host names of rules, with what came while names were asked."""
        return {**HostResolver(known=self.answers).known(rules), **names.known(rules)}

    def _held_for(self, entry: EnabledRule, resolved: ResolvedRule) -> RuleRecord:
        """The rule as it was, where nothing about it is new."""
        before = self._held.get(entry.rule.id)
        if before is None or before.resolved != resolved:
            return RuleRecord.of(entry, resolved)
        is_as_final = before.resolved.is_final == resolved.is_final
        if is_as_final and before.enabled == entry.enabled and before.rule == entry.rule:
            return before
        return replace(RuleRecord.of(entry, resolved), tail=before.tail)


def _differences(entry: EnabledRule, kept: RuleRecord | RuleSetAside) -> Iterator[str]:
    """Sentences about what a rule that is kept has otherwise than the one that was asked for."""
    if entry.rule.name is not None and entry.rule.name != kept.rule.name:
        name = (
            "stays without a name"
            if kept.rule.name is None
            else f"keeps its name {kept.rule.name!r}"
        )
        yield f"is there already and {name}"
    if entry.enabled != kept.enabled:
        yield f"is there already and stays {'enabled' if kept.enabled else 'disabled'}"


def _check_names(
    rules: Sequence[Rule], aside: Mapping[str, RuleSetAside], keep: Container[str]
) -> None:
    """Refuse a name or an id by which a rule that is aside is found."""
    coming = {rule.id for rule in rules if rule.id not in keep}
    waiting = {each: kept for each, kept in aside.items() if each not in coming}
    names: dict[str | None, str] = {
        kept.rule.name: each for each, kept in waiting.items() if kept.rule.name is not None
    }
    problems = []
    for number, rule in enumerate(rules, 1):
        if names.get(rule.name, rule.id) != rule.id:
            text = f"{rule.name!r} is the name of a rule that does not fit this host now"
            problems.append(Problem(("rule", number, "name"), f"{text}; choose another"))
        elif rule.name in waiting and rule.name != rule.id:
            text = f"{rule.name!r} is the id of a rule that does not fit this host now"
            problems.append(Problem(("rule", number, "name"), f"{text}; choose another"))
        if names.get(rule.id, rule.id) != rule.id:
            text = f"has the id {rule.id!r}, which is the name of a rule that waits"
            problems.append(Problem(("rule", number), f"{text}; give that one another name"))
    if problems:
        raise RuleError(problems)


def _blamed(error: RuleError) -> dict[int, str]:
    """The rules, from 0, that problems are about, and the first of each."""
    found: dict[int, str] = {}
    for problem in error.problems:
        match problem.path:
            case ("rule", int(number), *rest):
                found.setdefault(number - 1, str(Problem(tuple(rest), problem.message)))
    return found
