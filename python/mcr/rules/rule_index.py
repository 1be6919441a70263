"""Indexes of the running rules, which find those that a change affects without a full scan.

The keys contain the current kernel names of interfaces: an alternative name may appear or move to
another interface while rules run. `proposal` checks a change against the indexes.
"""

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import replace

from .active_rule import ActiveRule, DeviceResolver
from .loops import ListenerIndex
from .memberships import MembershipCounts
from .precedence import Precedence
from .spec import ResolvedInput


class ClaimHolder:
    """The rule that has some claims; they pass to another rule at once."""

    __slots__ = ("rule_id",)

    def __init__(self, rule_id: str) -> None:
        """Begin with this rule."""
        self.rule_id = rule_id


class RuleIndex:
    """The rules by claims, listeners, memberships and precedence."""

    def __init__(self, entries: Iterable[ActiveRule] = ()) -> None:
        """Index these rules."""
        self.claims: dict[Hashable, ClaimHolder] = {}
        self._holders: dict[str, ClaimHolder] = {}
        self.listeners = ListenerIndex()
        self.memberships = MembershipCounts()
        self.precedence = Precedence()
        self._devices: dict[str, str] = {}
        self._uses: Counter[str] = Counter()
        for entry in entries:
            self.add(entry)

    def add(self, entry: ActiveRule) -> None:
        """Add a rule."""
        holder = self._holders[entry.id] = ClaimHolder(entry.id)
        self.claims.update(dict.fromkeys(entry.claims, holder))
        self._add_input(entry)

    def remove(self, entry: ActiveRule) -> None:
        """Undo one `add`."""
        self._drop_claims(entry.claims, self._holders.pop(entry.id, None))
        self._remove_input(entry)

    def replace(self, before: ActiveRule, entry: ActiveRule) -> None:
        """Replace a rule; claims that are the same objects in both cost nothing."""
        holder = self._holders.pop(before.id, None) or ClaimHolder(entry.id)
        had, has = set(map(id, before.claims)), set(map(id, entry.claims))
        self._drop_claims([claim for claim in before.claims if id(claim) not in has], holder)
        self.claims |= {claim: holder for claim in entry.claims if id(claim) not in had}
        holder.rule_id = entry.id
        self._holders[entry.id] = holder
        self._remove_input(before)
        self._add_input(entry)

    def holder(self, claim: Hashable) -> str | None:
        """The id of the rule that has a claim."""
        holder = self.claims.get(claim)
        return None if holder is None else holder.rule_id

    def _drop_claims(self, claims: Iterable[Hashable], holder: ClaimHolder | None) -> None:
        for claim in claims:
            # Two rules may share a claim if their interface names became equal later.
            if self.claims.get(claim) is holder:
                self.claims.pop(claim, None)

    def _add_input(self, entry: ActiveRule) -> None:
        self.listeners.add(entry.flows, entry.id)
        for rule_input in entry.resolved.inputs:
            self.memberships.add(rule_input)
            self.precedence.add(entry.id, rule_input)
        for name, device in entry.interfaces():
            self._devices[name] = device
            self._uses[name] += 1

    def _remove_input(self, entry: ActiveRule) -> None:
        self.listeners.remove(entry.flows, entry.id)
        for rule_input in entry.resolved.inputs:
            self.memberships.remove(rule_input)
            self.precedence.remove(entry.id, rule_input)
        for name, _ in entry.interfaces():
            self._uses[name] -= 1
            if not self._uses[name]:
                del self._uses[name], self._devices[name]

    def is_current(self, device: DeviceResolver) -> bool:
        """Whether every name still refers to the interface of the time when its rule was added."""
        return all(device(name) == known for name, known in self._devices.items())

    def more_specific(self, rule_input: ResolvedInput) -> Iterable[str]:
        """The more specific rules that match some datagrams of an input. Thread-safe."""
        device = self._devices.get(rule_input.interface, rule_input.device)
        if device != rule_input.device:
            rule_input = replace(rule_input, device=device)
        return self.precedence.ranked_overlaps(rule_input)[0]
