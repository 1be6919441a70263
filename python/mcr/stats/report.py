"""From the engine's counters, which know ids and numbers, to `Stats`, which name rules.

Pure: the shape of the engine's dictionaries is known here and nowhere else.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ..rules import Output, Rule
from ..rules.precedence import covers
from ..rules.spec import ResolvedInput, ResolvedOutput, ResolvedRule
from .counters import InterfaceStats, OutputStats, RuleStats, Stats
from .rule_state import MoreSpecificRule, OutputStatus, RuleStatus, rule_state

Counters = Mapping[str, Any]
Counted = tuple[Rule, ResolvedRule, Counters]
"""A rule, what it became on this host, and what it has counted."""
Before = Callable[[ResolvedInput], Iterable[str]]
"""The ids of the more specific rules that have a part of what is for an input."""

_TAKERS_LOOKED_AT = 100_000
"""In one reading, so that no set of rules can make it long: some tenths of a second."""

_SEEN_OF_OUTPUT = ("lost_reason", "lost_age_ms", "refused_age_ms")
"""What is counted of an output for the state of its rule alone."""


class ActiveRule(NamedTuple):
    """A rule, and what it became on this host."""

    rule: Rule
    resolved: ResolvedRule


class PrecedingRules:
    """Finds the more specific rule that takes what a rule lacks, for one reading."""

    def __init__(
        self,
        before: Before,
        counted: Callable[[str], Counted | None],
    ) -> None:
        """Take how to find rules and their counts.

        Args:
            before: the ids of the more specific rules that meet an input.
            counted: a rule by its id, with what it has counted; None for one that is gone.
        """
        self._before = before
        self._counted = counted
        self._looks_left = _TAKERS_LOOKED_AT

    def of(self, taken: ResolvedInput, last_source: str | None = None) -> MoreSpecificRule | None:
        """Of those that have taken something the one that says most of this input.

        Args:
            taken: the input that lacks datagrams.
            last_source: the sender of the last one it had: only rules that take this sender can
                have what came since. None if it had none, or if the sender is not known.
        """
        if self._looks_left <= 0:
            return None
        ids = [*self._before(taken)][: self._looks_left]
        self._looks_left -= len(ids)
        found = (self._taker(taken, last_source, rule_id) for rule_id in ids)
        known = filter(None, found)
        return min(known, key=lambda each: (not each.all_shared, each.age_ms), default=None)

    def _taker(
        self, taken: ResolvedInput, last_source: str | None, rule_id: str
    ) -> MoreSpecificRule | None:
        counted = self._counted(rule_id)
        if counted is None:
            return None
        rule, resolved, numbers = counted
        if not numbers["enabled"] or not numbers["matched"]:
            return None
        listed = {str(source) for source in resolved.input.sources}
        if last_source is not None and listed and last_source not in listed:
            return None
        # A restart may have kept the count alone.
        age_ms = numbers["last_seen_age_ms"] or 0
        is_last_ours = _text(numbers["last_source"]) in {str(source) for source in taken.sources}
        is_within = covers(replace(taken, sources=()) if is_last_ours else taken, resolved.input)
        return MoreSpecificRule(rule.name or str(rule.input), age_ms, is_within)


def stats_from_report(counters: Counters, running: Collection[ActiveRule], before: Before) -> Stats:
    """Return the reading, with the rules in the order of `running`.

    Args:
        counters: of the engine.
        running: the rules.
        before: the ids of the more specific rules that meet an input.
    """
    counts = {counted["id"]: counted for counted in counters["rules"]}
    by_id = {each.rule.id: each for each in running}

    def counted(rule_id: str) -> Counted | None:
        each = by_id.get(rule_id)
        return each and (each.rule, each.resolved, counts[rule_id])

    takers = PrecedingRules(before, counted)
    return Stats(
        interfaces=tuple(InterfaceStats(**interface) for interface in counters["interfaces"]),
        rules=tuple(
            rule_stats(each.rule, each.resolved, counts[each.rule.id], takers) for each in running
        ),
    )


def rule_stats(
    rule: Rule, resolved: ResolvedRule, counted: Counters, takers: PrecedingRules | None = None
) -> RuleStats:
    """Return what one rule counted, with its state."""
    sight = _sight(resolved, counted)
    if takers is not None and sight.is_idle:
        sight = replace(sight, more_specific=takers.of(resolved.input, sight.last_source))
    outputs = tuple(
        _output(rule.outputs[sent.number - 1], sent, numbers)
        for sent, numbers in zip(resolved.outputs, counted["outputs"], strict=True)
    )
    return RuleStats(
        id=rule.id,
        name=rule.name,
        rule=str(rule),
        state=rule_state(sight, [*map(_output_sight, counted["outputs"])]),
        matched=counted["matched"],
        matched_bytes=counted["matched_bytes"],
        outputs=outputs,
    )


def _output(output: Output, sent: ResolvedOutput, numbers: Counters) -> OutputStats:
    counts = {name: count for name, count in numbers.items() if name not in _SEEN_OF_OUTPUT}
    address = str(sent.address) if sent.is_resolved else ""
    return OutputStats(output=str(output), address=address, **counts)


def _output_sight(numbers: Counters) -> OutputStatus:
    seen = {name: numbers[name] for name in _SEEN_OF_OUTPUT}
    return OutputStatus(parked=numbers["parked"], **seen)


def _sight(resolved: ResolvedRule, counted: Counters) -> RuleStatus:
    source = resolved.input
    return RuleStatus(
        enabled=counted["enabled"],
        trouble=counted["trouble"],
        interface="any interface" if source.everywhere else source.interface,
        group=str(source.block),
        ports=source.ports,
        joined=source.group.is_multicast and source.join == "each",
        sources=[str(address) for address in source.sources],
        vlan=source.vlan,
        matched=counted["matched"],
        last_source=_text(counted["last_source"]),
        last_seen_age_ms=counted["last_seen_age_ms"],
        group_seen=counted["group_seen"],
        group_seen_age_ms=counted["group_seen_age_ms"],
        other_port=counted["other_port"],
        other_source=_text(counted["other_source"]),
    )


def _text(address: object) -> str | None:
    return None if address is None else str(address)
