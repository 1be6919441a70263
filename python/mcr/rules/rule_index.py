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


class RuleIndex:
    """The rules by claims, listeners, memberships and precedence."""

    def __init__(self, entries: Iterable[ActiveRule] = ()) -> None:
        """Index these rules."""
        self.claims: dict[Hashable, str] = {}
        self.listeners = ListenerIndex()
        self.memberships = MembershipCounts()
        self.precedence = Precedence()
        self._devices: dict[str, str] = {}
        self._uses: Counter[str] = Counter()
        for entry in entries:
            self.add(entry)

    def add(self, entry: ActiveRule) -> None:
        """Add a rule."""
        self.claims.update(dict.fromkeys(entry.claims, entry.id))
        self.listeners.add(entry.flows, entry.id)
        self.memberships.add(entry.resolved.input)
        self.precedence.add(entry.id, entry.resolved.input)
        for name, device in entry.interfaces():
            self._devices[name] = device
            self._uses[name] += 1

    def remove(self, entry: ActiveRule) -> None:
        """Undo one `add`."""
        for claim in entry.claims:
            # Two rules may share a claim if their interface names became equal later.
            if self.claims.get(claim) == entry.id:
                del self.claims[claim]
        self.listeners.remove(entry.flows, entry.id)
        self.memberships.remove(entry.resolved.input)
        self.precedence.remove(entry.id, entry.resolved.input)
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
        return self.precedence.ranked_overlaps(replace(rule_input, device=device))[0]
