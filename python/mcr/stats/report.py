"""Conversion of the engine's report, which refers to rules by id, into `Stats`.

Pure. The only module that knows the shape of the engine's dictionaries.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..rules import Output, Rule
from ..rules.active_rule import ActiveRule
from ..rules.precedence import covers
from ..rules.spec import ResolvedInput, ResolvedOutput, ResolvedRule
from .alarm import Alarm
from .latency import LatencyStats
from .merge import MergeStats, merge_stats, with_legs
from .model import (
    FlowStats,
    InterfaceStats,
    OutputLoss,
    OutputStats,
    Rate,
    RuleFacts,
    RuleStats,
    Stats,
)
from .rule_state import InputTrouble, MoreSpecificRule, OutputStatus, RuleStatus, rule_state
from .sequence import SequenceStats

Counts = Mapping[str, Any]
"""The engine's counters of one interface, rule or output, or its whole report."""
RuleLookup = Callable[[ResolvedInput], Iterable[str]]
"""Returns the ids of the more specific rules whose input overlaps with this one."""

AlarmLookup = Callable[[str], tuple[Alarm, ...]]
"""Returns the alarms of a rule, by its id."""

_RULES_COMPARED = 100_000
"""The most more specific rules compared for one reading, which takes some tenths of a second."""

_NO_RATE = Rate(0.0, 0.0, 0.0)
_STATUS_FIELDS = ("lost_reason", "lost_errno", "lost_age_ms", "refused_age_ms")
"""The facts about an output that are no fields of its statistics."""


class RuleCounts(NamedTuple):
    """A rule and its counters."""

    rule: Rule
    resolved: ResolvedRule
    counts: Counts


class PrecedingRules:
    """Finds the more specific rule that matched the datagrams that a rule lacks, in one reading."""

    def __init__(self, lookup: RuleLookup, rule_counts: Callable[[str], RuleCounts | None]) -> None:
        """Compare no rules yet.

        Args:
            lookup: finds the more specific rules of an input.
            rule_counts: returns a rule and its counters by its id; None for a removed rule.
        """
        self._lookup = lookup
        self._rule_counts = rule_counts
        self._comparisons_left = _RULES_COMPARED

    def find(self, idle: ResolvedInput, last_source: str | None = None) -> MoreSpecificRule | None:
        """Return the more specific rule that best explains why an input receives nothing.

        A rule that would have matched all datagrams for the input is preferred, then the one with
        the latest match.

        Args:
            idle: the input that receives nothing.
            last_source: the sender of its last datagram; only a rule that accepts this sender can
                have matched later ones. None if there is no datagram or the sender is unknown.
        """
        if self._comparisons_left <= 0:
            return None
        ids = [*self._lookup(idle)][: self._comparisons_left]
        self._comparisons_left -= len(ids)
        candidates = (self._candidate(idle, last_source, rule_id) for rule_id in ids)
        matching = filter(None, candidates)
        return min(matching, key=lambda each: (not each.all_shared, each.age_ms), default=None)

    def _candidate(
        self, idle: ResolvedInput, last_source: str | None, rule_id: str
    ) -> MoreSpecificRule | None:
        """The rule with this id, if it has matched datagrams that the input may lack."""
        found = self._rule_counts(rule_id)
        if found is None:
            return None
        rule, resolved, counts = found
        if not counts["enabled"] or not counts["matched"]:
            return None
        accepted = {str(source) for source in resolved.input.sources}
        if last_source is not None and accepted and last_source not in accepted:
            return None
        age_ms = counts["last_seen_age_ms"] or 0  # unknown after a restart that kept the count
        shares_last = _text(counts["last_source"]) in {str(source) for source in idle.sources}
        all_shared = covers(replace(idle, sources=()) if shares_last else idle, resolved.input)
        return MoreSpecificRule(rule.id, rule.name or str(rule.input), age_ms, all_shared)


def stats_from_report(
    report: Counts,
    active: Collection[ActiveRule],
    lookup: RuleLookup,
    uptime_s: float,
    alarms: AlarmLookup,
) -> Stats:
    """Return the statistics of all interfaces and rules.

    Args:
        report: from the engine.
        active: the rules, in the order of the result.
        lookup: finds the more specific rules of an input.
        uptime_s: the time since the relay started, in seconds.
        alarms: returns the alarms of a rule.
    """
    counts_by_id = {counts["id"]: counts for counts in report["rules"]}
    active_by_id = {each.rule.id: each for each in active}

    def rule_counts(rule_id: str) -> RuleCounts | None:
        each = active_by_id.get(rule_id)
        if each is None:
            return None
        return RuleCounts(each.rule, each.resolved, counts_by_id[rule_id])

    preceding = PrecedingRules(lookup, rule_counts)
    return Stats(
        interfaces=tuple(map(interface_stats, report["interfaces"])),
        rules=tuple(
            rule_stats(
                each.rule,
                each.resolved,
                with_legs(each.resolved, counts_by_id[each.rule.id], counts_by_id.__getitem__),
                preceding,
                alarms=alarms(each.rule.id),
            )
            for each in active
        ),
        time=round(time.time(), 3),
        uptime_s=round(uptime_s, 3),
    )


def interface_stats(counts: Counts) -> InterfaceStats:
    """Return the statistics of one interface."""
    return InterfaceStats(**{**counts, **_rates(counts)})


def flow_stats(counts: Counts) -> FlowStats:
    """Return the statistics of one flow."""
    now_s = time.time()
    ages = {name: counts[f"{name}_age_ms"] for name in ("first_seen", "last_seen")}
    own = {name: count for name, count in counts.items() if not name.endswith("_age_ms")}
    moments = {name: round(now_s - age_ms / 1000, 2) for name, age_ms in ages.items()}
    sequence = sequence_stats(counts["sequence"])
    own |= {"dscps": tuple(counts["dscps"]), "sequence": sequence}
    return FlowStats(**{**own, **moments, **_rates(counts)})


def sequence_stats(counts: Counts | None) -> SequenceStats | None:
    """Return what the numbers in datagrams say; None where they are not read."""
    if counts is None:
        return None
    return SequenceStats(**{**counts, "arrivals": tuple(counts["arrivals"])})


def with_latency(rules: Iterable[RuleStats], found: Iterable[Counts] | None) -> Iterator[RuleStats]:
    """Yield the statistics of rules with the latency of each; None if it is not measured."""
    if found is None:
        yield from rules
        return
    for rule, counts in zip(rules, found, strict=True):
        yield replace(rule, latency=LatencyStats.of(**counts))


def rule_stats(
    rule: Rule,
    resolved: ResolvedRule,
    counts: Counts,
    preceding: PrecedingRules | None = None,
    *,
    alarms: tuple[Alarm, ...] = (),
) -> RuleStats:
    """Return the statistics of one rule.

    Args:
        rule: the rule as written.
        resolved: the rule as resolved on this host.
        counts: its counters.
        preceding: finds the rule that its state names if it is idle; None names no rule.
        alarms: its alarms.
    """
    now_s = time.time()
    outputs = tuple(
        _output_stats(now_s, rule.outputs[number - 1], output, output_counts)
        for (number, output), output_counts in zip(
            resolved.numbered, counts["outputs"], strict=True
        )
    )
    statuses = [*map(_output_status, counts["outputs"])]
    status = _rule_status(resolved, counts, alarms)
    if preceding is not None and status.is_idle:
        more_specific = preceding.find(resolved.input, status.last_source)
        if more_specific is not None:
            status = replace(status, more_specific=more_specific)
    stats = _stats_of(rule, counts, status, statuses, outputs)
    merge = _merge_stats(rule, resolved, counts)
    return stats if merge is None else replace(stats, merge=merge)


def new_rule_stats(
    rule: Rule, resolved: ResolvedRule, counts: Counts, parked: Iterable[str | None]
) -> RuleStats:
    """Return the statistics of a rule that has counted nothing, without its outputs.

    Args:
        rule: the rule as written.
        resolved: the rule as resolved on this host.
        counts: its counters.
        parked: why outputs wait, in their order; None for one that does not.
    """
    nothing = OutputStatus()
    statuses = [nothing if reason is None else OutputStatus(parked=reason) for reason in parked]
    return _stats_of(rule, counts, _rule_status(resolved, counts, ()), statuses, ())


def _merge_stats(rule: Rule, resolved: ResolvedRule, counts: Counts) -> MergeStats | None:
    legs = counts.get("legs")
    if legs is None:
        return None
    # What an input has delivered is not all sent, and so not all matched.
    received = ({**leg, "matched": (leg["merge"] or {}).get("received", 0)} for leg in legs)
    states = (
        rule_state(_rule_status(replace(resolved, input=each), leg, ()), ()).code
        for each, leg in zip(resolved.inputs, received, strict=True)
    )
    return merge_stats(resolved, rule.inputs, legs, states)


def _stats_of(
    rule: Rule,
    counts: Counts,
    status: RuleStatus,
    statuses: Sequence[OutputStatus],
    outputs: tuple[OutputStats, ...],
) -> RuleStats:
    """The statistics of a rule with this status, and with these outputs."""
    state = rule_state(status, statuses)
    return RuleStats(
        id=rule.id,
        name=rule.name,
        rule=str(rule),
        state=state.sentence,
        matched=counts["matched"],
        matched_bytes=counts["matched_bytes"],
        outputs=outputs,
        state_code=state.code,
        facts=_facts(time.time(), status),
        flows_evicted=counts["flows_evicted"],
        looped=counts["looped"],
        alarms=tuple(status.alarms),
        **_rates(counts),
        offload=counts["offload"],
        offload_reason=counts["offload_reason"],
        offload_detail=counts["offload_detail"],
        latency=None,
        merge=None,
    )


def _rates(counts: Counts) -> dict[str, Rate | None]:
    return {"rate_1s": _rate(counts["rate_1s"]), "rate_10s": _rate(counts["rate_10s"])}


def _rate(rate: tuple[float, float, float] | None) -> Rate | None:
    if rate is None:
        return None
    if not any(rate):
        return _NO_RATE
    pps, bits_per_s, dropped_pps = rate
    return Rate(round(pps, 1), round(bits_per_s, 1), round(dropped_pps, 1))


def _facts(now_s: float, status: RuleStatus) -> RuleFacts:
    age_ms = status.last_seen_age_ms
    return RuleFacts(
        last_seen=_moment(now_s, age_ms),
        silent_s=None if age_ms is None else age_ms / 1000,
        last_source=status.last_source,
        obstacle=None if status.trouble is None else status.trouble.reason,
        shadowed_by=None if status.shadow is None else status.shadow.id,
        unmatched=status.group_seen,
        unmatched_at=_moment(now_s, status.group_seen_age_ms),
        unmatched_port=status.other_port,
        unmatched_source=status.other_source,
    )


def _moment(now_s: float, age_ms: int | None) -> float | None:
    """The Unix time of an event, in seconds; None if it has never happened."""
    return None if age_ms is None else round(now_s - age_ms / 1000, 2)


def _output_stats(
    now_s: float, output: Output, resolved: ResolvedOutput, counts: Counts
) -> OutputStats:
    public = {**counts, **_rates(counts)}
    for name in _STATUS_FIELDS:
        del public[name]
    address = str(resolved.address) if resolved.is_resolved else ""
    lost_at = _moment(now_s, counts["lost_age_ms"])
    loss = (
        None
        if lost_at is None
        else OutputLoss(lost_at, counts["lost_reason"], counts["lost_errno"])
    )
    return OutputStats(
        output=str(output),
        address=address,
        last_loss=loss,
        last_refused=_moment(now_s, counts["refused_age_ms"]),
        **public,
    )


def _output_status(counts: Counts) -> OutputStatus:
    return OutputStatus(parked=counts["parked"], **{name: counts[name] for name in _STATUS_FIELDS})


def _rule_status(resolved: ResolvedRule, counts: Counts, alarms: tuple[Alarm, ...]) -> RuleStatus:
    source, trouble = resolved.input, counts["trouble"]
    return RuleStatus(
        enabled=counts["enabled"],
        trouble=None if trouble is None else InputTrouble(*trouble),
        interface="any interface" if source.everywhere else source.interface,
        group=str(source.block),
        ports=source.ports,
        joined=source.group.is_multicast and source.join == "each",
        sources=[str(address) for address in source.sources],
        vlan=source.vlan,
        matched=counts["matched"],
        last_source=_text(counts["last_source"]),
        last_seen_age_ms=counts["last_seen_age_ms"],
        group_seen=counts["group_seen"],
        group_seen_age_ms=counts["group_seen_age_ms"],
        other_port=counts["other_port"],
        other_source=_text(counts["other_source"]),
        alarms=alarms,
    )


def _text(address: object) -> str | None:
    return None if address is None else str(address)
