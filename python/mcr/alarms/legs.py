"""Inputs of merging rules as events: those that are down, switches, and gaps on all inputs."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..rules import Rule
from ..rules.redundancy import after_ms_in_use
from ..stats.alarm import Alarm
from .losses import NewLoss
from .notice import Moment, Notice, WatchedRule, duration, label
from .timing import Timing

_GAP_SAMPLES = 5
"""Samples in which a number is missing until it is lost: another input may be behind by the time of
four of them, which is more than ST 2022-7 permits."""


class MergeLevel(NamedTuple):
    """What the inputs of a rule deliver now."""

    ages_ms: tuple[int | None, ...]
    """The age of the last datagram of each input; None if there was none."""
    lost: int
    """Numbers that no input has delivered so far."""
    active: int | None
    """The number of the input that is sent alone, from 0; None if all are merged."""
    switches: int
    """How often another one was chosen."""


@dataclass(slots=True)
class _LegAlarm:
    """An input that is down, or was until a moment ago."""

    alarm: Alarm
    since_s: float
    back_s: float | None = None


@dataclass(slots=True)
class _MergeWatch:
    """The inputs of one rule."""

    rule: Rule
    begun_s: float
    level: MergeLevel
    down: dict[int, _LegAlarm] = field(default_factory=dict)
    """By the number of the input, from 0."""
    lost: deque[int] = field(default_factory=lambda: deque(maxlen=_GAP_SAMPLES))
    reported: int = 0
    """The numbers that were reported as lost."""


class LegMonitor:
    """The inputs of all merging rules. `alarms` may be called by any thread, all else by one."""

    def __init__(self, timing: Timing) -> None:
        """Watch no rule yet."""
        self._timing = timing
        self._watches: dict[str, _MergeWatch] = {}
        self._alarms: Mapping[str, tuple[Alarm, ...]] = {}

    def alarms(self, rule_id: str) -> tuple[Alarm, ...]:
        """The inputs of a rule that are down."""
        return self._alarms.get(rule_id, ())

    def forget(self) -> None:
        """Compare the next sample with none, after a pause."""
        self._watches, self._alarms = {}, {}

    def sample(
        self, now: Moment, levels: Iterable[tuple[WatchedRule, MergeLevel]]
    ) -> tuple[list[Notice], list[NewLoss]]:
        """Return the events that follow, and what was lost on all inputs.

        Args:
            now: the time of the sample.
            levels: the merging rules, each with what its inputs deliver.
        """
        notices, losses = list[Notice](), list[NewLoss]()
        before, self._watches = self._watches, {}
        for watched, level in levels:
            rule, expect = watched.rule, watched.rule.expect
            if not watched.enabled:
                continue
            known = before.pop(rule.id, None)
            watch = known or _MergeWatch(rule, now.s, level, reported=level.lost)
            self._watches[rule.id] = watch
            notices += _switches(watch, level)
            losses += _gaps(watch, level)
            watch.rule, watch.level = rule, level
            if expect is not None and expect.is_empty:
                notices += _end_all(now, watch)
            elif now.s >= watch.begun_s + self._timing.grace_s:
                notices += self._judge(now, watch)
        for dropped in before.values():  # disabled or removed
            notices += _end_all(now, dropped)
        self._alarms = {
            rule_id: tuple(each.alarm for each in watch.down.values())
            for rule_id, watch in self._watches.items()
            if watch.down
        }
        return notices, losses

    def _judge(self, now: Moment, watch: _MergeWatch) -> Iterator[Notice]:
        """The inputs that go down while others deliver, and those that are back."""
        watched_s = now.s - watch.begun_s
        ages = (watched_s if age is None else age / 1000 for age in watch.level.ages_ms)
        quiet_s = [min(age, watched_s) for age in ages]
        limit_s = self._timing.leg_s
        if watch.rule.merge == "failover":
            limit_s = max(limit_s, after_ms_in_use(watch.rule.after) / 1000)
        delivers = any(quiet < limit_s for quiet in quiet_s)
        for leg, quiet in enumerate(quiet_s):
            known = watch.down.get(leg)
            if quiet < limit_s:
                if known is None:
                    continue
                known.back_s = now.s - quiet if known.back_s is None else known.back_s
                if now.s - known.back_s >= self._timing.clear_s:
                    yield _end(watch, leg, known.back_s)
            elif known is not None or delivers:
                since_s = now.s - quiet if known is None else known.since_s
                seen = round(now.s - since_s, 2)
                alarm = Alarm("leg_down", now.unix(since_s), limit_s, seen, leg=leg + 1)
                watch.down[leg] = _LegAlarm(alarm, since_s)
                if known is None:
                    text = f"rule {label(watch.rule)}: {alarm}: {watch.rule.inputs[leg]}"
                    yield _notice("raised", watch.rule, alarm, text)


def _end_all(now: Moment, watch: _MergeWatch) -> Iterator[Notice]:
    for leg in [*watch.down]:
        yield _end(watch, leg, now.s, ", as it is no longer watched")


def _end(watch: _MergeWatch, leg: int, end_s: float, why: str = "") -> Notice:
    ended = watch.down.pop(leg)
    lasted_s = duration(end_s - ended.since_s)
    state = "was" if why else "is back; it was"
    text = f"rule {label(watch.rule)}: input {leg + 1} {state} down for {lasted_s:.1f} s{why}"
    return _notice("ended", watch.rule, ended.alarm, text, duration_s=lasted_s)


def _switches(watch: _MergeWatch, level: MergeLevel) -> Iterator[Notice]:
    """The choice of another input, since the last sample."""
    before, after = watch.level.active, level.active
    if after is None or before is None or before == after:
        return
    count = max(1, level.switches - watch.level.switches)
    more = f" ({count} changes since the last report)" if count > 1 else ""
    rule = watch.rule
    text = (
        f"rule {label(rule)} sends input {after + 1} instead of input {before + 1}{more}:"
        f" {rule.inputs[after]}"
    )
    fields = {
        "id": rule.id,
        "name": rule.name,
        "before": before + 1,
        "after": after + 1,
        "changes": count,
    }
    yield Notice("rule", "switched", text, fields, is_warning=after > 0)


def _gaps(watch: _MergeWatch, level: MergeLevel) -> Iterator[NewLoss]:
    """The numbers that have been missing in several samples, and were not reported."""
    watch.lost.append(level.lost)
    watch.reported = min(watch.reported, max(watch.lost))  # some came late, or a worker began anew
    if len(watch.lost) < _GAP_SAMPLES:
        return
    lost = min(watch.lost)
    if lost > watch.reported:
        rule = watch.rule
        fields = {"id": rule.id, "name": rule.name}
        counts = {"merge_gap": lost - watch.reported}
        yield NewLoss(f"the merge of rule {label(rule)}", fields, counts)
        watch.reported = lost


def _notice(event: str, rule: Rule, alarm: Alarm, text: str, **more: float) -> Notice:
    fields = {
        "id": rule.id,
        "name": rule.name,
        "code": alarm.code,
        "since": alarm.since,
        "expected": alarm.expected,
        "seen": alarm.seen,
        "leg": alarm.leg,
        **more,
    }
    return Notice("alarm", event, text, fields, is_warning=event == "raised")
