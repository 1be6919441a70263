"""What the inputs of a merging rule have delivered, and the sums of their counters."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from ..json_codec import Count, Growing, JsonObject
from ..rules.redundancy import after_ms_in_use
from ..rules.spec import ResolvedRule, leg_id
from .rule_state import SILENT_AFTER_MS, StateCode

Counts = dict[str, Any]
LegStatus = Literal["active", "standby", "down"]
"""Whether datagrams of an input are sent, would be sent in place of another input's, or do not
arrive: none in the last two seconds, or, with ``merge=failover``, in the time of ``after``."""

_SUMS = ("matched", "matched_bytes", "flows_evicted")
_COUNTS = ("received", "first", "late", "duplicate", "out_of_sequence", "missing")


@dataclass(frozen=True, slots=True)
class LegStats(JsonObject):
    """What one input of a merging rule has delivered: `received` is the sum of the next four.

    `first` are new, `late` new but behind a later one of another input, `duplicate` were delivered
    before, and `out_of_sequence` have no number that continues the input. `missing` counts the
    numbers between the first and the last of this input that it has not delivered. `skew_p50_ms`
    and `skew_p99_ms` are how far half and 99 % of the duplicates were at most behind the first
    ones, in milliseconds; None without any. `state_code` is as that of a rule with this input, and
    `status` says whether it is sent.
    """

    input: str
    state_code: Annotated[StateCode, Growing()]
    status: LegStatus = field(compare=False)
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
    began anew. With ``merge=failover``, `active` is the number of the input that is sent, from 1,
    and `switches` counts how often another one was chosen; else None and 0. `legs` are the inputs,
    in order.
    """

    lost: Count
    restarts: Count
    legs: tuple[LegStats, ...]
    active: Count | None = None
    switches: Count = 0


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
    resolved: ResolvedRule,
    inputs: Iterable[object],
    legs: Sequence[Counts],
    states: Iterable[StateCode],
) -> MergeStats:
    """The statistics of all inputs.

    Args:
        resolved: the rule.
        inputs: the inputs as written.
        legs: the counters of each.
        states: the state of each.
    """
    found = [leg["merge"] or {} for leg in legs]
    is_failover = resolved.merge == "failover"
    active = (found[0].get("active") or 0) if is_failover else None
    longest_ms = after_ms_in_use(resolved.after) if is_failover else SILENT_AFTER_MS
    stats = tuple(
        LegStats(
            str(each),
            state,
            leg_status(number, leg["last_seen_age_ms"], active, longest_ms),
            **{name: own.get(name, 0) for name in _COUNTS},
            skew_p50_ms=_milliseconds(own.get("skew_p50_us")),
            skew_p99_ms=_milliseconds(own.get("skew_p99_us")),
        )
        for number, (each, leg, own, state) in enumerate(
            zip(inputs, legs, found, states, strict=True)
        )
    )
    head = found[0]
    return MergeStats(
        head.get("lost", 0),
        head.get("restarts", 0),
        stats,
        None if active is None else active + 1,
        head.get("switches", 0),
    )


def leg_status(number: int, age_ms: int | None, active: int | None, longest_ms: int) -> LegStatus:
    """The status of an input.

    Args:
        number: its number, from 0.
        age_ms: the age of its last datagram; None without any.
        active: the number of the input that is sent alone; None if all are merged.
        longest_ms: the longest silence of an input that is not down.
    """
    if age_ms is None or age_ms > longest_ms:
        return "down"
    return "active" if active in (None, number) else "standby"


def _milliseconds(us: int | None) -> float | None:
    return None if us is None else us / 1000


def _sum_rates(rates: Iterable[tuple[float, ...] | None]) -> tuple[float, ...] | None:
    known = [rate for rate in rates if rate is not None]
    return tuple(map(sum, zip(*known, strict=True))) if known else None
