"""From the engine's counters, which know keys and numbers, to `Stats`, which name rules.

Pure: the shape of the engine's dictionaries is known here and nowhere else.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .resolved import ResolvedOutput, ResolvedRule
from .rules import Output, Rule
from .states import OutputSight, RuleSight, rule_state
from .stats import InterfaceStats, OutputStats, RuleStats, Stats

Counters = Mapping[str, Any]

_SEEN_OF_OUTPUT = ("lost_reason", "lost_age_ms", "refused_age_ms")
"""What is counted of an output for the state of its rule alone."""


class Running(NamedTuple):
    """A rule, what it became on this host, and the engine's key for it."""

    key: int
    rule: Rule
    resolved: ResolvedRule


def stats_of(counters: Counters, running: Iterable[Running]) -> Stats:
    """Return the reading, with the rules in the order of `running`."""
    by_key = {counted["key"]: counted for counted in counters["rules"]}
    return Stats(
        interfaces=tuple(InterfaceStats(**interface) for interface in counters["interfaces"]),
        rules=tuple(_rule(each.rule, each.resolved, by_key[each.key]) for each in running),
    )


def _rule(rule: Rule, resolved: ResolvedRule, counted: Counters) -> RuleStats:
    outputs = tuple(
        _output(rule.outputs[sent.number - 1], sent, numbers)
        for sent, numbers in zip(resolved.outputs, counted["outputs"], strict=True)
    )
    return RuleStats(
        id=rule.id,
        name=rule.name,
        rule=str(rule),
        state=rule_state(_sight(resolved, counted), [*map(_output_sight, counted["outputs"])]),
        matched=counted["matched"],
        matched_bytes=counted["matched_bytes"],
        outputs=outputs,
    )


def _output(output: Output, sent: ResolvedOutput, numbers: Counters) -> OutputStats:
    counts = {name: count for name, count in numbers.items() if name not in _SEEN_OF_OUTPUT}
    return OutputStats(output=str(output), address=str(sent.address), **counts)


def _output_sight(numbers: Counters) -> OutputSight:
    seen = {name: numbers[name] for name in _SEEN_OF_OUTPUT}
    return OutputSight(parked=numbers["parked"], **seen)


def _sight(resolved: ResolvedRule, counted: Counters) -> RuleSight:
    source = resolved.input
    return RuleSight(
        paused=counted["paused"],
        trouble=counted["trouble"],
        interface=source.interface,
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
