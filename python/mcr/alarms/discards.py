"""What interfaces report in the log only: datagrams that cannot be parsed, and buffers used up.

Neither is an event: the first is what others send, the second delays and does not lose.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..choices import Facility
from ..stats.discards import PARSE_ERRORS
from .notice import Notice

_INTERVAL_S = 10.0
"""The shortest time between two records about one interface and facility."""
_PARSED = tuple(reason for reason in PARSE_ERRORS if reason != "truncated_by_us")  # that is a loss


@dataclass(slots=True)
class _Watch:
    """What one facility has to say about one interface."""

    last: Mapping[str, int]
    reported_s: float | None = None
    unreported: Counter[str] = field(default_factory=Counter)


class DiscardMonitor:
    """Compares the counters of interfaces with those before."""

    def __init__(self) -> None:
        """Know no interface yet."""
        self._watches: dict[tuple[str, Facility], _Watch] = {}

    def sample(
        self, now_s: float, interfaces: Iterable[Mapping[str, Any]], *, is_first: bool
    ) -> Iterator[Notice]:
        """Yield what there is to say; nothing for the first sample.

        Args:
            now_s: `time.monotonic`.
            interfaces: their counters, as a reading has them.
            is_first: whether there is nothing to compare with, as after a pause.
        """
        known = set[tuple[str, Facility]]()
        for interface in interfaces:
            dropped = interface["dropped"]
            subjects: tuple[tuple[Facility, dict[str, int]], ...] = (
                ("parser", {reason: dropped[reason] for reason in _PARSED}),
                ("pool", {"buffer_waits": interface["buffer_waits"]}),
            )
            for facility, counts in subjects:
                key = interface["name"], facility
                known.add(key)
                watch = self._watches.setdefault(key, _Watch(dict.fromkeys(counts, 0)))
                if is_first:
                    watch.last = counts
                yield from _notices(now_s, key, watch, counts)
                watch.last = counts
        for gone in self._watches.keys() - known:
            del self._watches[gone]


def _notices(
    now_s: float, key: tuple[str, Facility], watch: _Watch, counts: Mapping[str, int]
) -> Iterator[Notice]:
    for reason, count in counts.items():
        if count > watch.last[reason]:
            watch.unreported[reason] += count - watch.last[reason]
    is_due = watch.reported_s is None or now_s - watch.reported_s >= _INTERVAL_S
    if not (watch.unreported and is_due):
        return
    (name, facility), found = key, dict(watch.unreported)
    watch.unreported.clear()
    watch.reported_s = now_s
    fields = {"interface": name, "counts": found}
    if facility == "pool":
        text = f"had no free buffer {found['buffer_waits']} times; frames waited in the kernel"
    else:
        listed = ", ".join(f"{count} {reason}" for reason, count in found.items())
        text = f"received what cannot be parsed: {listed}"
    text = f"interface {name} {text}"
    yield Notice("log", "record", text, fields, is_warning=facility == "pool", subject=facility)
