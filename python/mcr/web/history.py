"""The rates of the last minutes, from the differences of counters, for the page to draw."""

from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from math import isnan, nan
from typing import Any, NamedTuple

from ..protocol.results import DaemonStats
from ..stats import RuleStats
from . import limits

COLUMNS = ("matched_pps", "matched_bits_per_s", "sent_pps", "lost_pps")


class _Counts(NamedTuple):
    """The counters from which the columns follow."""

    matched: int
    matched_bits: int
    sent: int
    lost: int


_NO_COUNTS = _Counts(0, 0, 0, 0)
_NO_RATES = (nan,) * len(COLUMNS)


class Series:
    """The samples of one rule, or of all together, row by row; the oldest give way."""

    __slots__ = ("_counts", "_values")

    def __init__(self) -> None:
        """Have no sample yet."""
        self._values = array("f")
        self._counts: _Counts | None = None

    def add(self, counts: _Counts, seconds: float) -> None:
        """Add the rates since the last sample; a counter that fell has no rate."""
        before, self._counts = self._counts, counts
        steps = [] if before is None else [a - b for a, b in zip(counts, before, strict=True)]
        known = bool(steps) and seconds > 0 and min(steps) >= 0
        self._append([each / seconds for each in steps] if known else _NO_RATES)

    def add_gap(self) -> None:
        """Add a sample without values: the daemon did not answer."""
        self._append(_NO_RATES)

    def columns(self) -> dict[str, list[float | None]]:
        """Each column as a list, null where nothing is known."""
        width = len(COLUMNS)
        return {name: _as_json(self._values[n::width]) for n, name in enumerate(COLUMNS)}

    def _append(self, row: Sequence[float]) -> None:
        self._values.extend(row)
        del self._values[: -limits.SAMPLES * len(COLUMNS)]


class History:
    """The samples of all rules."""

    def __init__(self) -> None:
        """Have no sample yet."""
        self._times = deque[float](maxlen=limits.SAMPLES)
        self._total = Series()
        self._rules: dict[str, Series] = {}
        self._uptime_s: float | None = None

    def add(self, stats: DaemonStats) -> None:
        """Add a sample; forget rules that were removed."""
        # The time of day may be set between two samples.
        seconds = 0.0 if self._uptime_s is None else stats.uptime_s - self._uptime_s
        self._uptime_s = stats.uptime_s
        self._times.append(stats.time)
        counts = {rule.id: _counts(rule) for rule in stats.rules}
        self._total.add(_Counts(*map(sum, zip(_NO_COUNTS, *counts.values(), strict=True))), seconds)
        kept: dict[str, Series] = {}
        for rule_id in list(counts)[: limits.SAMPLED_RULES]:
            kept[rule_id] = self._rules.get(rule_id) or Series()
            kept[rule_id].add(counts[rule_id], seconds)
        self._rules = kept

    def add_gap(self, at: float) -> None:
        """Record that the daemon did not answer."""
        self._times.append(at)
        for series in (self._total, *self._rules.values()):
            series.add_gap()

    def as_dict(self, rule_id: str | None = None) -> dict[str, Any]:
        """The samples of a rule, or of all together: the end of each, and its rates."""
        series = self._total if rule_id is None else self._rules.get(rule_id, Series())
        columns = series.columns()
        times = list(self._times)[-len(columns[COLUMNS[0]]) or len(self._times) :]
        return {"times": [round(time, 1) for time in times], **columns}

    def latest(self) -> dict[str, Any]:
        """The newest sample of all rules together."""
        newest = self.as_dict()
        return {name: values[-1] if values else None for name, values in newest.items()}


def _counts(rule: RuleStats) -> _Counts:
    sent = sum(output.sent for output in rule.outputs)
    return _Counts(rule.matched, 8 * rule.matched_bytes, sent, rule.lost)


def _as_json(values: Iterable[float]) -> list[float | None]:
    return [None if isnan(value) else round(value, 1) for value in values]
