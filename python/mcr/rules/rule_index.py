"""Indexes of the running rules, which find those that a change affects without a full scan.

The keys contain the current kernel names of interfaces: an alternative name may appear or move to
another interface while rules run. `proposal` checks a change against the indexes.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from .copy_key import copy_key
from .loops import FlowKey, ListenerIndex, listener_flows
from .memberships import MembershipCounts
from .model import Rule
from .precedence import Precedence
from .spec import ResolvedInput, ResolvedRule

DeviceResolver = Callable[[str], str]
"""Returns the kernel name of an interface for its name in a rule."""


@dataclass(frozen=True, slots=True)
class IndexedRule:
    """A rule with its keys in the indexes."""

    id: str
    rule: Rule
    resolved: ResolvedRule
    claims: tuple[Hashable, ...]
    """Keys that must be unique: the name, and the key of each copy."""
    flows: tuple[FlowKey, ...]
    """The flow keys of the input."""

    @classmethod
    def of(cls, rule: Rule, resolved: ResolvedRule) -> Self:
        """Compute the keys of a rule."""
        rule_input = resolved.input
        sources = rule_input.sources or (None,)
        outputs = [output for output in resolved.outputs if output.is_resolved]
        copies = (copy_key(rule_input, source, output) for output in outputs for source in sources)
        name = () if rule.name is None else (rule.name,)
        return cls(resolved.id, rule, resolved, (*name, *copies), tuple(listener_flows(rule_input)))

    def with_devices(self, device: DeviceResolver) -> Self:
        """The same rule with the current kernel names of its interfaces."""
        rule_input, outputs = self.resolved.input, self.resolved.outputs
        resolved = replace(
            self.resolved,
            input=replace(rule_input, device=device(rule_input.interface)),
            outputs=tuple(replace(output, device=device(output.interface)) for output in outputs),
        )
        return self.of(self.rule, resolved)

    def interfaces(self) -> Iterator[tuple[str, str]]:
        """The names of its interfaces in the rule, each with its kernel name."""
        yield self.resolved.input.interface, self.resolved.input.device
        yield from ((output.interface, output.device) for output in self.resolved.outputs)


class RuleIndex:
    """The rules by claims, listeners, memberships and precedence."""

    def __init__(self, entries: Iterable[IndexedRule] = ()) -> None:
        """Index these rules."""
        self.claims: dict[Hashable, str] = {}
        self.listeners = ListenerIndex()
        self.memberships = MembershipCounts()
        self.precedence = Precedence()
        self._devices: dict[str, str] = {}
        self._uses: Counter[str] = Counter()
        for entry in entries:
            self.add(entry)

    def add(self, entry: IndexedRule) -> None:
        """Add a rule."""
        self.claims.update(dict.fromkeys(entry.claims, entry.id))
        self.listeners.add(entry.flows, entry.id)
        self.memberships.add(entry.resolved.input)
        self.precedence.add(entry.id, entry.resolved.input)
        for name, device in entry.interfaces():
            self._devices[name] = device
            self._uses[name] += 1

    def remove(self, entry: IndexedRule) -> None:
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
