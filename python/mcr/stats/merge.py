"""What the inputs of a merging rule have delivered, and the sums of their counters."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..json_codec import Count, JsonObject
from ..rules.spec import ResolvedRule, leg_id
from .rule_state import StateCode

Counts = dict[str, Any]
_SUMS = ("matched", "matched_bytes", "flows_evicted")
_COUNTS = ("received", "first", "late", "duplicate", "out_of_sequence", "missing")


@dataclass(frozen=True, slots=True)
class LegStats(JsonObject):
    """What one input of a merging rule has delivered: `received` is the sum of the next four.

    `first` are new, `late` new but behind a later one of another input, `duplicate` were delivered
    before, and `out_of_sequence` have no number that continues the input. `missing` counts the
    numbers between the first and the last of this input that it has not delivered. `skew_p50_ms`
    and `skew_p99_ms` are how far half and 99 % of the duplicates were at most behind the first
    ones, in milliseconds; None without any. `state_code` is as that of a rule with this input.
    """

    input: str
    state_code: StateCode
    received: Count = 0
    first: Count = 0
    late: Count = 0
    duplicate: Count = 0
    out_of_sequence: Count = 0
    missing: Count = 0
    skew_p50_ms: float | None = field(default=None, compare=False)
    skew_p99_ms: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class MergeStats(JsonObject):
    """What the inputs of a merging rule have delivered.

    `lost` counts the numbers that no input has delivered so far, `restarts` how often the numbers
    began anew. `legs` are the inputs, in order.
    """

    lost: Count
    restarts: Count
    legs: tuple[LegStats, ...]


def with_legs(
    resolved: ResolvedRule, counts: Counts, leg_counts: Callable[[str], Counts]
) -> Counts:
    """The counters of a rule, with `legs` and the sums of all inputs if there are several.

    Args:
        resolved: the rule.
        counts: those of its first input, and its outputs.
        leg_counts: returns those of another input, by its id.
    """
    if resolved.merge is None:
        return counts
    others = (leg_counts(leg_id(resolved.id, leg)) for leg in range(1, len(resolved.inputs)))
    legs = [counts, *others]
    heard = [leg for leg in legs if leg["last_seen_age_ms"] is not None]
    newest = min(heard, key=lambda leg: leg["last_seen_age_ms"], default=counts)
    seen = {name: newest[name] for name in ("last_source", "last_seen_age_ms")}
    rates = {name: _sum_rates(leg[name] for leg in legs) for name in ("rate_1s", "rate_10s")}
    is_troubled = all(leg["trouble"] is not None for leg in legs)
    sums = {name: sum(leg[name] for leg in legs) for name in _SUMS}
    trouble = counts["trouble"] if is_troubled else None
    return {**counts, **sums, **seen, **rates, "trouble": trouble, "legs": legs}


def merge_stats(
    inputs: Iterable[object], legs: Iterable[Counts], states: Iterable[StateCode]
) -> MergeStats:
    """The statistics of all inputs.

    Args:
        inputs: the inputs as written.
        legs: the counters of each.
        states: the state of each.
    """
    found = [leg["merge"] or {} for leg in legs]
    stats = tuple(
        LegStats(
            str(each),
            state,
            **{name: leg.get(name, 0) for name in _COUNTS},
            skew_p50_ms=_milliseconds(leg.get("skew_p50_us")),
            skew_p99_ms=_milliseconds(leg.get("skew_p99_us")),
        )
        for each, leg, state in zip(inputs, found, states, strict=True)
    )
    return MergeStats(found[0].get("lost", 0), found[0].get("restarts", 0), stats)


def _milliseconds(us: int | None) -> float | None:
    return None if us is None else us / 1000


def _sum_rates(rates: Iterable[tuple[float, ...] | None]) -> tuple[float, ...] | None:
    known = [rate for rate in rates if rate is not None]
    return tuple(map(sum, zip(*known, strict=True))) if known else None
