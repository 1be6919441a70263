"""The table of rules that the page shows: one page of it, filtered and sorted here.

So a browser never holds more than the rows that it shows, however many rules there are.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..protocol.results import RuleInfo
from ..stats import RuleStats
from . import limits
from .health import NOT_LIVE
from .observer import DaemonReading

_ORDER = (
    "below_expected",
    "above_expected",
    "unresolved",
    "waiting",
    "silent",
    "joined",
    "shadowed",
    "flowing",
    "disabled",
)


@dataclass(frozen=True, slots=True)
class TableQuery:
    """Which rows of the table are asked for."""

    text: str = ""
    """Only rules whose name, id, text or state contains this, in any case."""
    state: str = ""
    """Only rules in this state; `problems` for those that lose or cannot receive or send."""
    sort: str = ""
    """The column to sort by; empty for the order of the rules."""
    descending: bool = False
    offset: int = 0
    limit: int = 50


def table(reading: DaemonReading, query: TableQuery) -> dict[str, Any]:
    """Return the rows of a page, the number of rows that match, and of rules in each state."""
    rows = [*map(_row, reading.stats.rules), *map(_row_aside, reading.aside)]
    states: dict[str, int] = {}
    for row in rows:
        states[row["state_code"]] = states.get(row["state_code"], 0) + 1
    found = [row for row in rows if _matches(row, query)]
    key = _KEYS.get(query.sort)
    if key is not None:
        found.sort(key=key, reverse=query.descending)
    limit = min(query.limit, limits.PAGE_ROWS)
    return {
        "total": len(rows),
        "problems": sum(row["problem"] for row in rows),
        "states": states,
        "found": len(found),
        "offset": query.offset,
        "rows": found[query.offset : query.offset + limit],
    }


def _row(rule: RuleStats) -> dict[str, Any]:
    rate = rule.rate_1s
    sent = sum(output.rate_1s.pps for output in rule.outputs if output.rate_1s)
    is_parked = any(output.parked for output in rule.outputs) and rule.state_code != "disabled"
    lost_pps = rate.dropped_pps if rate else 0.0
    return {
        "id": rule.id,
        "name": rule.name,
        "rule": rule.rule,
        "state": rule.state,
        "state_code": rule.state_code or "joined",
        "outputs": len(rule.outputs),
        "matched": rule.matched,
        "lost": rule.lost,
        "matched_pps": rate.pps if rate else None,
        "bits_per_s": rate.bits_per_s if rate else None,
        "sent_pps": sent if rate else None,
        "lost_pps": lost_pps,
        "last_seen": rule.facts.last_seen,
        "alarms": [str(alarm) for alarm in rule.alarms],
        "problem": bool(rule.alarms) or rule.state_code in NOT_LIVE or is_parked or lost_pps > 0,
    }


def _row_aside(rule: RuleInfo) -> dict[str, Any]:
    none = dict.fromkeys(("matched_pps", "bits_per_s", "sent_pps", "lost_pps", "last_seen"))
    return {
        "id": rule.id,
        "name": rule.name,
        "rule": rule.rule,
        "state": rule.state,
        "state_code": rule.state_code or "unresolved",
        "outputs": len(rule.outputs),
        "matched": 0,
        "lost": 0,
        "alarms": [],
        **none,
        "problem": rule.enabled,
    }


def _matches(row: dict[str, Any], query: TableQuery) -> bool:
    if query.state == "problems":
        if not row["problem"]:
            return False
    elif query.state and row["state_code"] != query.state:
        return False
    text = query.text.casefold()
    return not text or any(text in part.casefold() for part in _texts(row))


def _texts(row: dict[str, Any]) -> Iterable[str]:
    return (row["name"] or "", row["id"], row["rule"], row["state"])


def _number(name: str) -> Callable[[dict[str, Any]], float]:
    return lambda row: row[name] or 0


def _state_order(row: dict[str, Any]) -> int:
    code = row["state_code"]
    return _ORDER.index(code) if code in _ORDER else len(_ORDER)


_KEYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "name": lambda row: (row["name"] or row["rule"]).casefold(),
    "state": _state_order,
    **{
        name: _number(name)
        for name in ("matched", "lost", "matched_pps", "bits_per_s", "sent_pps", "lost_pps")
    },
    "last_seen": _number("last_seen"),
}
