"""The limit on events: beyond it, those of one kind become a single one with their sums."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from .notice import Notice

EVENTS_AT_ONCE = 20
"""The most events of a sample that are published one by one."""
EVENTS_A_SECOND = 2.0
"""The rate of events in the long run."""
_VERBS = {
    "raised": "have an alarm",
    "ended": "have one less",
    "began": "lose copies or frames",
    "continues": "still lose copies or frames",
    "source_changed": "hear another sender",
    "switched": "send another input",
    "waiting": "wait for what their input needs",
    "resumed": "receive again",
    "parked": "are parked",
    "unparked": "send again",
}


class EventBudget:
    """The events that may be published now."""

    def __init__(self) -> None:
        """Start with a full burst."""
        self._room = float(EVENTS_AT_ONCE)
        self._at_s: float | None = None

    def condense(self, now_s: float, notices: Iterable[Notice]) -> list[Notice]:
        """Return the notices of one sample, or fewer that stand for them."""
        if self._at_s is not None:
            earned = (now_s - self._at_s) * EVENTS_A_SECOND
            self._room = min(self._room + earned, EVENTS_AT_ONCE)
        self._at_s = now_s
        ordered = sorted(notices, key=_group)
        published: list[Notice] = []
        for _, group in groupby(ordered, _group):
            same = list(group)
            published += same if len(same) <= max(self._room, 1) else [_sum(same)]
            self._room = max(0.0, self._room - len(same))
        return published


def _group(notice: Notice) -> tuple[str, str]:
    return notice.kind, notice.event


def _sum(notices: Sequence[Notice]) -> Notice:
    """One event for several of the same kind."""
    first = notices[0]
    fields: dict[str, Any] = {"what": first.event, "of": len(notices)}
    if first.kind == "loss":
        counts = Counter[str]()
        for each in notices:
            counts.update(each.fields["counts"])
        fields["counts"] = dict(counts)
        lost = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        verb = "lose no more" if first.event == "ended" else _VERBS[first.event]
        text = f"{len(notices)} outputs or interfaces {verb}{f': {lost}' if lost else ''}"
    elif first.kind == "alarm":
        codes = Counter(each.fields["code"] for each in notices)
        fields["counts"] = dict(codes)
        kinds = ", ".join(f"{code} {count}" for code, count in codes.items())
        text = f"{len(notices)} rules {_VERBS[first.event]}: {kinds}"
    else:
        what = "outputs" if "output" in first.fields else "rules"
        text = f"{len(notices)} {what} {_VERBS[first.event]}"
    return Notice(
        first.kind,
        "many",
        f"{text}; their statistics show which",
        fields,
        is_warning=first.is_warning,
    )
