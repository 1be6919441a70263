"""The set of running rules, and changes of it: planned, then committed.

Owns what a change makes of each rule: whether it is added, removed, changed or kept, enabled or
not, and sent to the engine, and its place in the order; also which rules are unfinished, and the
addresses of host names in use. A change is checked in `proposal`, each rule of it in `resolver`.
Opens no socket.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ..choices import Ingress
from ..errors import Problem, RuleError
from .active_rule import ActiveRule, RuleStep, RuleTurn
from .edit import RuleEdit
from .hostnames import HostName, HostResolver, ResolvedHosts, uses
from .layout import Layout
from .local_host import Interface, LocalHost, listed, missing_interface
from .model import Rule
from .proposal import Proposal
from .resolver import RuleResolver
from .rule_index import RuleIndex
from .shaping import NO_SHAPING, Shaping
from .spec import ResolvedInput, ResolvedRule

__all__ = ["Interface", "Resolution", "RulePlan", "RuleSet", "resolve"]

_AS_BEFORE: Mapping[str, bool] = MappingProxyType({})
_NO_LAYOUTS: Mapping[str, Layout] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Resolution:
    """Rules resolved on this host, for the native core."""

    rules: tuple[ResolvedRule, ...]
    """In the order given."""
    warnings: tuple[str, ...]


def resolve(
    rules: Iterable[Rule | str], interfaces: Iterable[Interface], *, ingress: Ingress
) -> Resolution:
    """Checks a whole set of rules against this host, as it is now, and against each other.

    Raises:
        RuleError: with all problems, under paths such as ``rule 2, output 1, ttl``.
    """
    plan = RuleSet(ingress).plan(interfaces, add=rules, follows=False)
    return Resolution(plan.resolved, plan.warnings)


@dataclass(frozen=True, slots=True)
class RulePlan:
    """A change that `RuleSet` has checked and `RuleSet.commit` makes."""

    steps: tuple[RuleStep, ...]
    """The rules that the change adds or resolves again, in the given order."""
    removed: tuple[str, ...]
    """Ids of the rules that are no longer in the set afterwards."""
    kept: tuple[str, ...]
    """Ids of the given rules that stay as they are."""
    warnings: tuple[str, ...]
    answers: ResolvedHosts
    """The addresses of the host names in use afterwards."""
    in_place: bool
    """Whether resolved rules keep their place in the order; otherwise they follow the others."""
    _revision: int = field(repr=False)
    replaced: Mapping[str, str] = field(default_factory=dict, repr=False)
    """For rules that replace another one with the same input: its id, by theirs."""
    order: tuple[str, ...] | None = None
    """The ids of all rules in their order afterwards; None leaves it to `in_place`."""
    shaping: Shaping | None = None
    """Other classes and rates of interfaces; None leaves them."""

    @property
    def added(self) -> tuple[str, ...]:
        """Ids of the new rules."""
        return tuple(step.after.id for step in self.steps if step.before is None)

    @property
    def changed(self) -> Mapping[str, RuleTurn]:
        """The rules that stay and are different afterwards, by id."""
        turns = ((step.after.id, step.turn) for step in self.steps)
        return {rule_id: turn for rule_id, turn in turns if turn is not None}

    @property
    def fresh(self) -> tuple[RuleStep, ...]:
        """The steps that change something, if only what is known of the host."""
        return tuple(step for step in self.steps if step.before is not step.after)

    @property
    def sent(self) -> tuple[RuleStep, ...]:
        """The changes of the rules that the engine must have again, or for the first time."""
        return tuple(step for step in self.steps if step.is_sent)

    @property
    def resolved(self) -> tuple[ResolvedRule, ...]:
        """The rules that the change adds or resolves again, for the native core."""
        return tuple(step.after.resolved for step in self.steps)


class RuleSet:
    """The running rules with indexes, so that a change costs time for itself, not for all rules.

    Only the search for loops looks further, along the rules that the added ones feed, and host
    names are collected from all rules if there are any. It is not thread-safe: threads that share
    it hold a lock from a plan to its commit.
    """

    def __init__(self, ingress: Ingress, *, uncounted: str | None = None) -> None:
        """Starts empty.

        Args:
            ingress: what the rules run on.
            uncounted: why no senders are counted, for rules that expect some; None if they are.
        """
        self._uncounted = uncounted
        self.answers: ResolvedHosts = {}
        """The addresses of the host names in use; replaced, never changed."""
        self.shaping = Shaping()
        """The classes, and the rates of interfaces."""
        self._ingress: Ingress = ingress
        self._host: LocalHost | None = None
        self._entries: dict[str, ActiveRule] = {}
        self._unfinished: dict[str, None] = {}
        self._edited: dict[str, None] = {}
        """The ids of edited rules."""
        self._indexes = RuleIndex()
        self._revision = 0
        self._committed: RulePlan | None = None
        self._is_half_done = False

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The running rules, oldest first."""
        return tuple(self)

    @property
    def active(self) -> tuple[ActiveRule, ...]:
        """The running rules with their state, oldest first."""
        return tuple(self._entries.values())

    @property
    def unfinished(self) -> tuple[ActiveRule, ...]:
        """The rules to resolve again, as something was unknown that no engine sees; for any thread.

        That is a host name, or the kind of an input address that this host does not have.
        """
        entries = map(self._entries.get, tuple(self._unfinished))
        return tuple(entry for entry in entries if entry is not None)

    def __iter__(self) -> Iterator[Rule]:
        """The running rules, oldest first."""
        return (entry.rule for entry in self._entries.values())

    def __len__(self) -> int:
        """The number of running rules."""
        return len(self._entries)

    def __contains__(self, rule_id: object) -> bool:
        """Whether a rule with this id is running."""
        return rule_id in self._entries

    def find(self, rule: Rule | str) -> str | None:
        """The id of a running rule, given as a value, or by its id or its name."""
        ref = rule.id if isinstance(rule, Rule) else rule
        if ref in self._entries:
            return ref
        holder = None if isinstance(rule, Rule) else self._indexes.holder(rule)
        return holder or self._ids_by_text().get(ref)

    def identified(self, rules: Iterable[Rule]) -> list[Rule]:
        """These rules; one that a running rule was edited to be has the id of that."""
        known = self._ids_by_text()
        if not known:
            return list(rules)
        return [
            rule if rule.is_edited or rule.id not in known else rule.with_id(known[rule.id])
            for rule in rules
        ]

    def before(self, rule_input: ResolvedInput) -> Iterable[str]:
        """The more specific rules that match a part of an input's datagrams; for any thread."""
        return self._indexes.more_specific(rule_input)

    def plan(
        self,
        interfaces: Iterable[Interface],
        *,
        remove: Iterable[str] = (),
        add: Iterable[Rule | str] = (),
        keep: Container[str] = (),
        enabled: Mapping[str, bool] = _AS_BEFORE,
        names: HostResolver | None = None,
        follows: bool = True,
        in_place: bool = False,
        layouts: Mapping[str, Layout] = _NO_LAYOUTS,
        shaping: Shaping | None = None,
    ) -> RulePlan:
        """Checks a change without making it; the removed rules no longer count for the added ones.

        Args:
            interfaces: of this host, as they are now.
            remove: ids of running rules.
            add: rules as values or as text; those that are also removed are resolved again.
            keep: ids of rules that stay as they are where `add` has them again.
            enabled: by id, whether rules are enabled; others stay so, and new ones are enabled.
            names: resolved host names; without them each name is resolved to its first address.
            follows: whether rules wait for missing interfaces, addresses and host names.
            in_place: whether rules that are resolved again keep their place in the order.
            layouts: by id, which outputs edited rules had before.
            shaping: the classes and rates of interfaces afterwards; None leaves them.

        Raises:
            RuleError: with all problems; ``rule N`` counts the added ones from 1.
        """
        host = self._host_of(interfaces)
        self._follow(host)
        resolver = RuleResolver(host, names, follows=follows)
        proposal = Proposal(
            self._entries,
            self._indexes,
            host,
            resolver,
            keep=keep,
            layouts=layouts,
            uncounted=self._uncounted,
            shaping=self.shaping if shaping is None else shaping,
        )
        proposal.change(remove, add)
        entries, layouts = proposal.entries, proposal.layouts
        steps = tuple(self._step(own, enabled, layouts.get(own.id)) for own in entries.values())
        self._check_classes(shaping, entries.keys() | proposal.removed.keys())
        return RulePlan(
            steps=steps,
            removed=tuple(each for each in proposal.removed if each not in entries),
            kept=(*proposal.kept, *_unchanged(steps)),
            warnings=tuple(map(str, (*proposal.warnings, *self._rate_warnings(shaping, host)))),
            answers=self._answers_after(steps, proposal.removed, names),
            in_place=in_place,
            _revision=self._revision,
            replaced=proposal.replaced,
            shaping=None if shaping == self.shaping else shaping,
        )

    def replan(
        self, interfaces: Iterable[Interface], rule_ids: Iterable[str], names: HostResolver
    ) -> RulePlan:
        """Resolves running rules again, in their places.

        Raises:
            RuleError: with all problems; ``rule N`` counts the given ids from 1.
        """
        ids = tuple(rule_ids)
        rules = [self._entries[rule_id].rule for rule_id in ids]
        return self.plan(interfaces, remove=ids, add=rules, names=names, in_place=True)

    def plan_edit(
        self, interfaces: Iterable[Interface], rule_id: str, edit: RuleEdit, names: HostResolver
    ) -> RulePlan:
        """Edits a running rule; its id and its place stay.

        Raises:
            RuleError: with all problems, under the fields of the rule.
        """
        rule, layout = edit.apply(self._entries[rule_id].rule)
        try:
            return self.plan(
                interfaces,
                remove=[rule_id],
                add=[rule],
                names=names,
                in_place=True,
                layouts={rule_id: layout},
            )
        except RuleError as error:
            problems = (Problem(each.path[2:], each.message) for each in error.problems)
            raise RuleError(problems) from None

    def plan_enabled(self, rule_ids: Iterable[str], enabled: bool) -> RulePlan:
        """Enables or disables running rules."""
        entries = (self._entries[rule_id] for rule_id in rule_ids)
        steps = tuple(RuleStep(entry, entry.with_enabled(enabled)) for entry in entries)
        return RulePlan(
            steps=steps,
            removed=(),
            kept=_unchanged(steps),
            warnings=(),
            answers=self.answers,
            in_place=True,
            _revision=self._revision,
        )

    def restore(
        self, rules: Iterable[ActiveRule], answers: ResolvedHosts, shaping: Shaping = NO_SHAPING
    ) -> RulePlan:
        """The change that adds rules as they ran before, without a check.

        Args:
            rules: rules of a set of another process.
            answers: the addresses of their host names there.
            shaping: its classes and rates of interfaces.
        """
        steps = tuple(RuleStep(None, entry) for entry in rules)
        return RulePlan(
            steps=steps,
            removed=(),
            kept=(),
            warnings=(),
            answers=self._answers_after(steps, (), HostResolver(known=answers)),
            in_place=False,
            _revision=self._revision,
            shaping=shaping,
        )

    def commit(self, plan: RulePlan) -> None:
        """Makes a planned change; a second call does nothing.

        If an exception of a signal handler interrupts it, call it again.

        Raises:
            ValueError: the rules have changed since the plan was made.
        """
        if plan is self._committed:
            return
        if plan._revision != self._revision:
            raise ValueError("the rules have changed since this plan was made; make a new plan")
        was_cut_short, self._is_half_done = self._is_half_done, True
        if not was_cut_short:
            self._update_indexes(plan)
        entries = {step.after.id: step.after for step in plan.steps}
        for rule_id in plan.removed if plan.in_place else (*plan.removed, *entries):
            self._entries.pop(rule_id, None)
        self._entries |= entries
        for rule_id in (*plan.removed, *entries):
            self._unfinished.pop(rule_id, None)
            self._edited.pop(rule_id, None)
        self._edited |= dict.fromkeys(each for each, own in entries.items() if own.rule.is_edited)
        waiting = (
            rule_id
            for rule_id, entry in entries.items()
            if entry.host is None and not entry.resolved.is_final
        )
        self._unfinished |= dict.fromkeys(waiting)
        if plan.order is not None:
            self._entries = {rule_id: self._entries[rule_id] for rule_id in plan.order}
        if was_cut_short:
            self._indexes = RuleIndex(self._entries.values())
        self.answers = plan.answers
        self.shaping = self.shaping if plan.shaping is None else plan.shaping
        self._committed = plan
        self._is_half_done = False
        self._revision += 1

    def using(self, names: Container[HostName]) -> tuple[str, ...]:
        """Ids of the rules that send to one of these host names."""
        return tuple(each for each, entry in self._entries.items() if uses(entry.rule, names))

    def _check_classes(self, shaping: Shaping | None, gone: Container[str]) -> None:
        """Refuses other classes without one that a rule which stays is in."""
        if shaping is None:
            return
        rules = (entry.rule for each, entry in self._entries.items() if each not in gone)
        shaping.check_users((rule.traffic_class, rule.name or rule.id) for rule in rules)

    def _rate_warnings(self, shaping: Shaping | None, host: LocalHost) -> Iterator[Problem]:
        """Warnings about new rates of interfaces that are missing, or have one by another name."""
        given = {} if shaping is None else shaping.rates
        names: dict[str, list[str]] = {}
        for name in sorted(given):
            names.setdefault(host.device(name), []).append(name)
        for name, rate in given.items():
            own, text = host.device(name), ""
            if host.interface(name) is None:
                text = f"{missing_interface(name, host.names)}; its rate holds once it exists"
            elif len(names[own]) > 1:
                holder = own if own in given else names[own][0]
                text = f"{listed(names[own])} are one interface; the rate of {holder} counts"
            if text and rate != self.shaping.rates.get(name):
                yield Problem(("interface", name), text)

    def _step(
        self, entry: ActiveRule, enabled: Mapping[str, bool], layout: Layout | None
    ) -> RuleStep:
        before = self._entries.get(entry.id)
        now = enabled.get(entry.id, True if before is None else before.enabled)
        return RuleStep(before, entry.with_enabled(now), layout).merged()

    def _ids_by_text(self) -> dict[str, str]:
        """The ids of edited rules, by those that their texts would have."""
        rules = ((each, self._entries.get(each)) for each in tuple(self._edited))
        return {entry.rule.text_id: each for each, entry in rules if entry is not None}

    def _answers_after(
        self, steps: Iterable[RuleStep], replaced: Container[str], names: HostResolver | None
    ) -> ResolvedHosts:
        """The addresses of all host names after a change; newer answers replace older ones."""

        def rules() -> Iterator[Rule]:
            yield from (each.rule for each in self._entries.values() if each.id not in replaced)
            yield from (step.after.rule for step in steps)

        known = HostResolver(known=self.answers).known(rules())
        return known if names is None else {**known, **names.known(rules())}

    def _update_indexes(self, plan: RulePlan) -> None:
        removed = set(plan.removed)
        indexed = [step.after for step in plan.steps if not self._has_keys_of(step.after)]
        befores = dict[str, ActiveRule]()
        for entry in indexed:
            before_id = plan.replaced.get(entry.id)
            if before_id is not None and (before_id == entry.id or before_id in removed):
                befores[entry.id] = self._entries[before_id]
                removed.discard(before_id)
            elif entry.id in self._entries:
                removed.add(entry.id)
        for rule_id in removed:
            self._indexes.remove(self._entries[rule_id])
        for entry in indexed:
            if entry.id in befores:
                self._indexes.replace(befores[entry.id], entry)
            else:
                self._indexes.add(entry)

    def _has_keys_of(self, entry: ActiveRule) -> bool:
        running = self._entries.get(entry.id)
        return running is not None and running.resolved is entry.resolved

    def _host_of(self, interfaces: Iterable[Interface]) -> LocalHost:
        """The host; the same object while it is the same."""
        host = LocalHost(interfaces, self._ingress)
        if self._host is None or not host.is_same(self._host):
            self._host = host
        return self._host

    def _follow(self, host: LocalHost) -> None:
        """Updates the rules to the current interfaces, as alternative names may move."""
        if self._indexes.is_current(host.device):
            return
        self._entries = {
            each: entry.with_devices(host.device) for each, entry in self._entries.items()
        }
        self._indexes = RuleIndex(self._entries.values())


def _unchanged(steps: Iterable[RuleStep]) -> tuple[str, ...]:
    return tuple(step.after.id for step in steps if step.before is not None and step.turn is None)
