"""The table of rules that the page shows: one page of it, filtered and sorted here.

So a browser never holds more than the rows that it shows, however many rules there are.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..protocol.selection import AnyRule, has_problem, mentions
from ..stats import RuleStats
from . import limits
from .observer import DaemonReading

_ORDER = (
    "looping",
    "below_expected",
    "above_expected",
    "degraded",
    "unresolved",
    "waiting",
    "silent",
    "joined",
    "shadowed",
    "flowing",
    "disabled",
)
_PROBLEMS = "problems"
_RATES = ("matched_pps", "bits_per_s", "sent_pps", "lost_pps")
_NOT_COUNTED = {"matched": 0, "lost": 0, **dict.fromkeys((*_RATES, "last_seen"))}


@dataclass(frozen=True, slots=True)
class TableQuery:
    """Which rows of the table are asked for."""

    text: str = ""
    """Only rules whose name, id, text or state contains this, in any case."""
    state: str = ""
    """Only rules in this state; `problems` for those with which something is wrong now."""
    sort: str = ""
    """The column to sort by; empty for the order of the rules."""
    descending: bool = False
    offset: int = 0
    limit: int = 50


def table(reading: DaemonReading, query: TableQuery) -> dict[str, Any]:
    """Return the rows of a page, the number of rows that match, and of rules in each state."""
    rules: list[AnyRule] = [*reading.stats.rules, *reading.aside]
    problems = {rule.id for rule in rules if has_problem(rule, reading.stats.time)}
    states = Counter(_code(rule) for rule in rules)
    found = [
        _row(rule) | {"problem": rule.id in problems}
        for rule in rules
        if mentions(rule, query.text)
        and (not query.state or query.state == _code(rule) or query.state == _PROBLEMS)
        and (query.state != _PROBLEMS or rule.id in problems)
    ]
    key = _KEYS.get(query.sort)
    if key is not None:
        found.sort(key=key, reverse=query.descending)
    limit = min(query.limit, limits.PAGE_ROWS)
    return {
        "total": len(rules),
        "problems": len(problems),
        "states": states,
        "found": len(found),
        "offset": query.offset,
        "rows": found[query.offset : query.offset + limit],
    }


def _code(rule: AnyRule) -> str:
    return rule.state_code or ("joined" if isinstance(rule, RuleStats) else "unresolved")


def _row(rule: AnyRule) -> dict[str, Any]:
    counted = _counted(rule) if isinstance(rule, RuleStats) else _NOT_COUNTED
    return counted | {
        "id": rule.id,
        "name": rule.name,
        "rule": rule.rule,
        "state": rule.state,
        "state_code": _code(rule),
        "outputs": len(rule.outputs),
        "alarms": [str(alarm) for alarm in rule.alarms],
    }


def _counted(rule: RuleStats) -> dict[str, Any]:
    rate = rule.rate_1s
    sent = sum(output.rate_1s.pps for output in rule.outputs if output.rate_1s)
    return {
        "matched": rule.matched,
        "lost": rule.lost,
        "matched_pps": rate.pps if rate else None,
        "bits_per_s": rate.bits_per_s if rate else None,
        "sent_pps": sent if rate else None,
        "lost_pps": rate.dropped_pps if rate else 0.0,
        "last_seen": rule.facts.last_seen,
    }


def _number(name: str) -> Callable[[dict[str, Any]], float]:
    return lambda row: row[name] or 0


def _state_order(row: dict[str, Any]) -> int:
    code = row["state_code"]
    return _ORDER.index(code) if code in _ORDER else len(_ORDER)


_KEYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "name": lambda row: (row["name"] or row["rule"]).casefold(),
    "state": _state_order,
    **{name: _number(name) for name in ("matched", "lost", *_RATES)},
    "last_seen": _number("last_seen"),
}
