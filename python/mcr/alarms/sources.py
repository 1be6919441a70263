"""Changes of the sender of a rule as events, at most one for each rule in a while."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..rules.fields import Address, Network
from .notice import Moment, Notice, WatchedRule, label
from .timing import Timing


class NewSource(NamedTuple):
    """The datagrams of a rule come from another sender than in the last sample."""

    watched: WatchedRule
    before: Address
    after: Address


@dataclass(slots=True)
class _Reported:
    """The last event about a rule, and the changes since."""

    at_s: float
    before: Address
    changes: int = 0


class SourceMonitor:
    """The recent changes of senders. Rules that may hear several senders are left out."""

    def __init__(self, timing: Timing) -> None:
        """Start without changes."""
        self._timing = timing
        self._reported: dict[str, _Reported] = {}

    def sample(self, now: Moment, changes: Iterable[NewSource]) -> list[Notice]:
        """Return the events that follow from new changes."""
        old = [
            rule_id
            for rule_id, each in self._reported.items()
            if now.s - each.at_s >= self._timing.source_s
        ]
        left = {rule_id: self._reported.pop(rule_id) for rule_id in old}
        notices: list[Notice] = []
        for change in changes:
            if not _has_one_sender(change.watched):
                continue
            rule_id = change.watched.rule.id
            known = self._reported.get(rule_id)
            if known is not None:
                known.changes += 1
                continue
            earlier = left.get(rule_id)
            count = 1 if earlier is None else earlier.changes + 1
            notices.append(_notice(change, count))
            self._reported[rule_id] = _Reported(now.s, change.before)
        return notices


def _has_one_sender(watched: WatchedRule) -> bool:
    """Whether one sender is usual: one group, one port, and neither several sources."""
    source, expect = watched.rule.input, watched.rule.expect
    several = expect is not None and (expect.sources or 1) > 1
    is_block = isinstance(source.group, Network) or isinstance(source.port, range)
    return not (several or is_block or len(source.sources) > 1)


def _notice(change: NewSource, count: int) -> Notice:
    rule = change.watched.rule
    more = f" ({count} changes since the last report)" if count > 1 else ""
    text = f"rule {label(rule)} hears {change.after} instead of {change.before}{more}"
    fields = {
        "id": rule.id,
        "name": rule.name,
        "before": str(change.before),
        "after": str(change.after),
        "changes": count,
    }
    return Notice("rule", "source_changed", text, fields, is_warning=True)
