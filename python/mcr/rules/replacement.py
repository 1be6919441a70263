"""A rule that replaces another one with the same input: what the outputs of both have in common.

An output that stays is neither resolved nor checked again, so that a change of one output among a
thousand costs little more than that output.
"""

from collections.abc import Hashable, Mapping
from types import MappingProxyType

from .active_rule import ActiveRule
from .local_host import LocalHost
from .model import Rule
from .spec import ResolvedOutput

_NOTHING: Mapping[int, int] = MappingProxyType({})


class Replacement:
    """The outputs of a new rule that the replaced one has too."""

    def __init__(self, before: ActiveRule | None, rule: Rule, host: LocalHost) -> None:
        """Find the common outputs; there are none without a replaced rule, or on another host.

        Args:
            before: the replaced rule, with the same input.
            rule: the new rule.
            host: the host as it is now.
        """
        self.before = before if before is not None and before.host is host else None
        self.places = _NOTHING if self.before is None else _places(self.before.rule, rule)
        """By the position of an output in the new rule, its position in the replaced one."""

    @property
    def outputs(self) -> Mapping[int, ResolvedOutput]:
        """The resolved common outputs, by their numbers in the new rule."""
        if self.before is None:
            return {}
        resolved = self.before.resolved.outputs
        return {at + 1: resolved[place].numbered(at + 1) for at, place in self.places.items()}

    @property
    def copies(self) -> Mapping[int, tuple[Hashable, ...]]:
        """The keys of their copies, by their numbers in the new rule."""
        if self.before is None:
            return {}
        each = max(len(self.before.resolved.input.sources), 1)
        copies = self.before.copies
        return {
            at + 1: copies[place * each : (place + 1) * each] for at, place in self.places.items()
        }

    @property
    def specs(self) -> Mapping[int, bytes]:
        """Their specifications, by their numbers in the new rule."""
        if self.before is None:
            return {}
        return {at + 1: self.before.specs[place] for at, place in self.places.items()}


def _places(before: Rule, rule: Rule) -> Mapping[int, int]:
    """The position of each common output in the replaced rule, by that in the new one."""
    if before.outputs is rule.outputs:
        return {at: at for at in range(len(rule.outputs))}
    # Mostly the same objects; only the others are compared by value, which takes longer.
    known = {id(output): at for at, output in enumerate(before.outputs)}
    found = {at: known.pop(id(output), None) for at, output in enumerate(rule.outputs)}
    missing = [at for at, place in found.items() if place is None]
    if missing and known:
        equal = {before.outputs[place]: place for place in known.values()}
        found |= {at: equal.pop(rule.outputs[at], None) for at in missing}
    return {at: place for at, place in found.items() if place is not None}
