"""The expectations of rules, and the alarms where they are not met.

An expectation that is not met becomes an alarm after a while and ends after a while, so that
traffic around a threshold causes no flood of events; `timing` has the times.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..rules import Rule
from ..rules.expectation import EMPTY, Expectation
from ..stats.alarm import Alarm, AlarmCode
from .notice import Moment, Notice, WatchedRule, duration, label
from .timing import Timing

_JUDGED_IN_TRAFFIC: tuple[AlarmCode, ...] = (
    "low_pps",
    "low_bitrate",
    "few_sources",
    "many_sources",
)
"""Alarms that say nothing new while a rule is silent for which silence is an alarm of its own."""


class RuleLevel(NamedTuple):
    """What a rule receives now; None where that is unknown."""

    age_ms: int | None
    """The age of the last datagram; None if there was none."""
    pps: float | None
    bits_per_s: float | None
    senders: int | None = None


class _Miss(NamedTuple):
    """An expectation that is not met."""

    expected: float
    seen: float
    since_s: float
    """When that began."""
    hold_s: float
    """How long it must last to become an alarm."""


@dataclass(slots=True)
class _Condition:
    """One expectation of one rule that is not met, or was not until a moment ago."""

    since_s: float
    met_s: float | None = None
    alarm: Alarm | None = None


@dataclass(slots=True)
class _RuleWatch:
    """The expectations of one rule."""

    rule: Rule
    expect: Expectation
    begun_s: float
    """When the rule was first seen with these."""
    conditions: dict[AlarmCode, _Condition] = field(default_factory=dict)


class ExpectationMonitor:
    """The alarms of all rules. `alarms` may be called by any thread, all else by one."""

    def __init__(self, default: Expectation | None, timing: Timing) -> None:
        """Watch no rule yet.

        Args:
            default: what rules expect that say nothing; None for nothing.
            timing: the times.
        """
        self._default = default or EMPTY
        self._timing = timing
        self._watches: dict[str, _RuleWatch] = {}
        self._alarms: Mapping[str, tuple[Alarm, ...]] = {}

    def alarms(self, rule_id: str) -> tuple[Alarm, ...]:
        """The alarms of a rule."""
        return self._alarms.get(rule_id, ())

    def expectation(self, watched: WatchedRule) -> Expectation:
        """What a rule expects now; a disabled one expects nothing."""
        if not watched.enabled:
            return EMPTY
        own = watched.rule.expect
        return self._default if own is None else own

    def watched(self, rules: Iterable[WatchedRule]) -> list[tuple[WatchedRule, Expectation]]:
        """The rules that expect something, each with that."""
        pairs = ((each, self.expectation(each)) for each in rules)
        return [pair for pair in pairs if pair[1] is not EMPTY and not pair[1].is_empty]

    def sample(
        self,
        now: Moment,
        watched: Sequence[tuple[WatchedRule, Expectation]],
        levels: Iterable[RuleLevel],
    ) -> list[Notice]:
        """Judge the rules that expect something, and return what has changed.

        Args:
            now: the time of the sample.
            watched: from `watched`.
            levels: what each of them receives.
        """
        notices: list[Notice] = []
        before, self._watches = self._watches, {}
        for (each, expect), level in zip(watched, levels, strict=True):
            known = before.get(each.rule.id)
            if known is None or known.expect != expect:
                known = _RuleWatch(each.rule, expect, now.s)
            else:
                del before[each.rule.id]
                known.rule = each.rule
            self._watches[each.rule.id] = known
            if now.s >= known.begun_s + self._timing.grace_s:
                notices += self._judge(now, known, level)
        for dropped in before.values():  # disabled, removed, or with other expectations
            notices += self._end_all(now, dropped)
        self._alarms = {
            rule_id: alarms for rule_id, each in self._watches.items() if (alarms := _alarms(each))
        }
        return notices

    def _judge(self, now: Moment, watch: _RuleWatch, level: RuleLevel) -> Iterator[Notice]:
        misses, unknown = self._misses(now, watch, level)
        for code, miss in misses.items():
            condition = watch.conditions.setdefault(code, _Condition(miss.since_s))
            condition.met_s = None
            alarm = Alarm(code, now.unix(condition.since_s), miss.expected, round(miss.seen, 2))
            is_new = condition.alarm is None
            if not is_new or now.s - condition.since_s >= miss.hold_s:
                condition.alarm = alarm
                if is_new:
                    text = f"rule {label(watch.rule)}: {alarm}"
                    yield _notice("raised", watch.rule, alarm, text)
        for code in [*watch.conditions.keys() - misses.keys() - unknown]:
            condition = watch.conditions[code]
            if condition.met_s is None:
                condition.met_s = now.s
            if condition.alarm is None or now.s - condition.met_s >= self._timing.clear_s:
                del watch.conditions[code]
                yield from _end(watch.rule, condition, condition.met_s, "")

    def _misses(
        self, now: Moment, watch: _RuleWatch, level: RuleLevel
    ) -> tuple[dict[AlarmCode, _Miss], set[AlarmCode]]:
        """The expectations that are not met, and those of which nothing is known now."""
        expect, timing = watch.expect, self._timing
        found: dict[AlarmCode, _Miss | None] = {}
        age_s = float("inf") if level.age_ms is None else level.age_ms / 1000
        if expect.silence_ms is not None:
            limit_s, watched_s = expect.silence_ms / 1000, now.s - watch.begun_s
            quiet_s = age_s if age_s <= watched_s else watched_s - timing.grace_s
            if quiet_s > limit_s:
                found["silent"] = _Miss(limit_s, quiet_s, now.s - quiet_s, 0)
        if expect.silence_ms is not None and age_s >= timing.pause_s:
            found |= dict.fromkeys(_JUDGED_IN_TRAFFIC)
        else:
            found |= _rate_misses(now, expect, level, timing.hold_s)
            found |= _sender_misses(now, expect, level, timing.senders_s)
        misses = {code: miss for code, miss in found.items() if miss is not None}
        return misses, found.keys() - misses.keys()

    def _end_all(self, now: Moment, watch: _RuleWatch) -> Iterator[Notice]:
        why = ", as it is no longer watched"
        for condition in watch.conditions.values():
            yield from _end(watch.rule, condition, condition.met_s or now.s, why)


def _rate_misses(
    now: Moment, expect: Expectation, level: RuleLevel, hold_s: float
) -> Iterator[tuple[AlarmCode, _Miss | None]]:
    """The rates that are too low; None for those that are unknown."""
    rates: tuple[tuple[AlarmCode, int | None, float, float | None], ...] = (
        ("low_pps", expect.pps, expect.least_pps, level.pps),
        ("low_bitrate", expect.bits_per_s, expect.least_bits_per_s, level.bits_per_s),
    )
    for code, expected, least, seen in rates:
        if expected is not None and seen is None:
            yield code, None
        elif expected is not None and seen is not None and seen < least:
            yield code, _Miss(expected, seen, now.s, hold_s)


def _sender_misses(
    now: Moment, expect: Expectation, level: RuleLevel, hold_s: float
) -> Iterator[tuple[AlarmCode, _Miss | None]]:
    """The same for the number of senders."""
    expected, seen = expect.sources, level.senders
    if expected is not None and seen is None:
        yield from (("few_sources", None), ("many_sources", None))
    elif expected is not None and seen is not None and seen != expected:
        code: AlarmCode = "few_sources" if seen < expected else "many_sources"
        yield code, _Miss(expected, seen, now.s, hold_s)


def _end(rule: Rule, condition: _Condition, met_s: float, why: str) -> Iterator[Notice]:
    """The end of an alarm, if it was one."""
    alarm = condition.alarm
    if alarm is not None:
        lasted_s = duration(met_s - condition.since_s)
        text = f"rule {label(rule)}: the alarm {alarm.code} ended after {lasted_s:.1f} s{why}"
        yield _notice("ended", rule, alarm, text, duration_s=lasted_s)


def _alarms(watch: _RuleWatch) -> tuple[Alarm, ...]:
    return tuple(each.alarm for each in watch.conditions.values() if each.alarm is not None)


def _notice(event: str, rule: Rule, alarm: Alarm, text: str, **more: float) -> Notice:
    fields = {
        "id": rule.id,
        "name": rule.name,
        "code": alarm.code,
        "since": alarm.since,
        "expected": alarm.expected,
        "seen": alarm.seen,
        **more,
    }
    return Notice("alarm", event, text, fields, is_warning=event == "raised")
