"""The running rules, held so that those which a change meets are found without looking at all.

Owns the keys under which they are found. Keys have the own names of interfaces, as they are now: an
alternative name may come or move while rules run. Judges nothing.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from .copy_key import copy_key
from .loops import FlowKey, ListenerIndex, listened_flows
from .memberships import Memberships
from .model import Rule
from .precedence import Precedence
from .spec import ResolvedInput, ResolvedRule

Device = Callable[[str], str]
"""An interface's own name, by what a rule calls it."""


@dataclass(frozen=True, slots=True)
class IndexedRule:
    """A rule with the keys under which the indexes hold it."""

    id: str
    rule: Rule
    resolved: ResolvedRule
    claims: tuple[Hashable, ...]
    """What no other rule may have: the name, and each (input, source, destination)."""
    lanes: tuple[FlowKey, ...]
    """Where its input listens."""

    @classmethod
    def of(cls, rule: Rule, resolved: ResolvedRule) -> Self:
        """The entry of a rule."""
        taken = resolved.input
        sources = taken.sources or (None,)
        known = [output for output in resolved.outputs if output.is_resolved]
        copies = (copy_key(taken, source, output) for output in known for source in sources)
        name = () if rule.name is None else (rule.name,)
        return cls(resolved.id, rule, resolved, (*name, *copies), tuple(listened_flows(taken)))

    def on(self, device: Device) -> Self:
        """The same, with its interfaces as they are called now."""
        taken, outputs = self.resolved.input, self.resolved.outputs
        resolved = replace(
            self.resolved,
            input=replace(taken, device=device(taken.interface)),
            outputs=tuple(replace(each, device=device(each.interface)) for each in outputs),
        )
        return self.of(self.rule, resolved)

    def names(self) -> Iterator[tuple[str, str]]:
        """What it calls its interfaces, with their own names."""
        yield self.resolved.input.interface, self.resolved.input.device
        yield from ((output.interface, output.device) for output in self.resolved.outputs)


class RuleIndex:
    """The rules by what they claim, where they listen, what they join and what they go before."""

    def __init__(self, entries: Iterable[IndexedRule] = ()) -> None:
        """Holds these."""
        self.claims: dict[Hashable, str] = {}
        self.listeners = ListenerIndex()
        self.memberships = Memberships()
        self.precedence = Precedence()
        self._devices: dict[str, str] = {}
        self._uses: Counter[str] = Counter()
        for entry in entries:
            self.add(entry)

    def add(self, entry: IndexedRule) -> None:
        """Takes a rule in."""
        self.claims.update(dict.fromkeys(entry.claims, entry.id))
        self.listeners.add(entry.lanes, entry.id)
        self.memberships.add(entry.resolved.input)
        self.precedence.add(entry.id, entry.resolved.input)
        for name, device in entry.names():
            self._devices[name] = device
            self._uses[name] += 1

    def remove(self, entry: IndexedRule) -> None:
        """Takes one `add` back."""
        for claim in entry.claims:
            # Of two that were added before their names met, one has it.
            if self.claims.get(claim) == entry.id:
                del self.claims[claim]
        self.listeners.remove(entry.lanes, entry.id)
        self.memberships.remove(entry.resolved.input)
        self.precedence.remove(entry.id, entry.resolved.input)
        for name, _ in entry.names():
            self._uses[name] -= 1
            if not self._uses[name]:
                del self._uses[name], self._devices[name]

    def agree(self, device: Device) -> bool:
        """Whether all names mean the interfaces that they meant when the rules were added."""
        return all(device(name) == own for name, own in self._devices.items())

    def before(self, taken: ResolvedInput) -> Iterable[str]:
        """The more specific rules that have a part of what is for an input; for any thread."""
        device = self._devices.get(taken.interface, taken.device)
        return self.precedence.around(replace(taken, device=device))[0]
