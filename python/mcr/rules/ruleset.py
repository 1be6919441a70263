"""The set of running rules with its indexes, and changes of it: planned, then committed.

A change is checked in `proposal`, each rule of it in `resolver`. No socket is opened here.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import starmap
from typing import Self

from ..choices import Ingress
from ..errors import Problem
from .hostnames import HostResolver
from .local_host import Interface, LocalHost
from .model import Rule
from .proposal import Proposal
from .resolver import RuleResolver
from .rule_index import IndexedRule, RuleIndex
from .spec import ResolvedInput, ResolvedRule

__all__ = ["Interface", "Resolution", "RulePlan", "RuleSet", "resolve"]


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
    """A change that `RuleSet.plan` has checked and `RuleSet.commit` makes."""

    removed: tuple[str, ...]
    """Ids of the removed rules."""
    added: tuple[Rule, ...]
    """The added rules, in the given order."""
    resolved: tuple[ResolvedRule, ...]
    """The same for the native core, in the same order."""
    warnings: tuple[str, ...]
    _entries: tuple[IndexedRule, ...] = field(repr=False)
    _revision: int = field(repr=False)

    @classmethod
    def _of(
        cls,
        revision: int,
        entries: Iterable[IndexedRule],
        removed: Iterable[str] = (),
        warnings: Iterable[Problem] = (),
    ) -> Self:
        added = tuple(entries)
        return cls(
            removed=tuple(removed),
            added=tuple(entry.rule for entry in added),
            resolved=tuple(entry.resolved for entry in added),
            warnings=tuple(map(str, warnings)),
            _entries=added,
            _revision=revision,
        )


class RuleSet:
    """The running rules with indexes, so that a change costs time for itself, not for all rules.

    Only the search for loops looks further: along the rules that the added ones feed. It is not
    thread-safe: threads that share it hold a lock from `plan` to `commit`.
    """

    def __init__(self, ingress: Ingress) -> None:
        """Starts empty."""
        self._ingress: Ingress = ingress
        self._entries: dict[str, IndexedRule] = {}
        self._indexes = RuleIndex()
        self._revision = 0
        self._committed: RulePlan | None = None
        self._is_half_done = False

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The running rules, oldest first."""
        return tuple(self)

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
        if isinstance(rule, Rule):
            return rule.id if rule.id in self._entries else None
        return rule if rule in self._entries else self._indexes.claims.get(rule)

    def plan(
        self,
        interfaces: Iterable[Interface],
        *,
        remove: Iterable[str] = (),
        add: Iterable[Rule | str] = (),
        keep: Container[str] = (),
        names: HostResolver | None = None,
        follows: bool = True,
    ) -> RulePlan:
        """Checks a change without making it; the removed rules no longer count for the added ones.

        Args:
            interfaces: of this host, as they are now.
            remove: ids of running rules.
            add: rules as values or as text.
            keep: ids of rules that stay as they are where `add` has them again.
            names: resolved host names; without them each name is resolved to its first address.
            follows: whether rules wait for missing interfaces, addresses and host names.

        Raises:
            RuleError: with all problems; ``rule N`` counts the added ones from 1.
        """
        host = LocalHost(interfaces, self._ingress)
        self._follow(host)
        resolver = RuleResolver(host, names, follows=follows)
        proposal = Proposal(self._entries, self._indexes, host, resolver, keep=keep)
        for rule_id in remove:
            proposal.remove(rule_id)
        for rule in add:
            proposal.add(rule)
        proposal.find_loops()
        proposal.check.raise_if_any()
        proposal.note_precedence()
        entries = proposal.entries.values()
        return RulePlan._of(self._revision, entries, proposal.removed, proposal.warnings)

    def restore(self, rules: Iterable[tuple[Rule, ResolvedRule]]) -> RulePlan:
        """The change that adds rules as they ran before, without a check."""
        return RulePlan._of(self._revision, starmap(IndexedRule.of, rules))

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
        for rule_id in (*plan.removed, *(entry.id for entry in plan._entries)):
            entry = self._entries.pop(rule_id, None)
            if entry is not None and not was_cut_short:
                self._indexes.remove(entry)
        self._entries |= {entry.id: entry for entry in plan._entries}
        if was_cut_short:
            self._indexes = RuleIndex(self._entries.values())
        else:
            for entry in plan._entries:
                self._indexes.add(entry)
        self._committed = plan
        self._is_half_done = False
        self._revision += 1

    def arrange(self, rule_ids: Iterable[str]) -> None:
        """Puts the running rules into this order, which contains each of them."""
        self._entries = {rule_id: self._entries[rule_id] for rule_id in rule_ids}

    def before(self, rule_input: ResolvedInput) -> Iterable[str]:
        """The ids of the more specific rules that match datagrams for an input. Thread-safe."""
        return self._indexes.more_specific(rule_input)

    def _follow(self, host: LocalHost) -> None:
        """Updates the rules to the current interfaces, as alternative names may move."""
        if self._indexes.is_current(host.device):
            return
        self._entries = {
            each: entry.with_devices(host.device) for each, entry in self._entries.items()
        }
        self._indexes = RuleIndex(self._entries.values())
