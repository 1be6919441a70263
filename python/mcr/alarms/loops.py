"""Loops that traffic shows, as alarms: what a rule has relayed comes back to it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..rules import Rule
from ..rules.fields import Address
from ..stats.alarm import Alarm
from .notice import Moment, Notice, WatchedRule, duration, label
from .timing import Timing


class FoundLoop(NamedTuple):
    """Payloads that have come back to a rule since the last sample."""

    watched: WatchedRule
    payloads: int
    """How many, among those that the engine watched."""
    source: Address
    """Where the last of them came from."""


@dataclass(slots=True)
class _Loop:
    """A loop that lasts."""

    rule: Rule
    begun_s: float
    last_s: float
    alarm: Alarm


class LoopMonitor:
    """The rules in loops. `alarms` may be called by any thread, `sample` by one."""

    def __init__(self, timing: Timing) -> None:
        """Know no loop yet."""
        self._timing = timing
        self._loops: Mapping[str, _Loop] = {}

    def alarms(self, rule_id: str) -> tuple[Alarm, ...]:
        """The alarm of a rule that is in a loop."""
        loop = self._loops.get(rule_id)
        return () if loop is None else (loop.alarm,)

    def forget(self) -> None:
        """Know no loop any more, after a pause."""
        self._loops = {}

    def sample(
        self, now: Moment, found: Iterable[FoundLoop], rules: Mapping[str, WatchedRule]
    ) -> list[Notice]:
        """Return the events that follow from payloads that came back, and from the time."""
        loops, notices = dict(self._loops), []
        for watched, payloads, source in found:
            rule = watched.rule
            known = loops.get(rule.id)
            begun_s = now.s if known is None else known.begun_s
            seen = payloads + (0 if known is None else known.alarm.seen)
            alarm = Alarm("loop", now.unix(begun_s), 0, seen, str(source))
            loops[rule.id] = loop = _Loop(rule, begun_s, now.s, alarm)
            if known is None:
                notices.append(_notice("raised", loop, f"rule {label(rule)}: {alarm}"))
        for rule_id, loop in [*loops.items()]:
            hosted = rules.get(rule_id)
            is_watched = hosted is not None and hosted.enabled
            if is_watched and now.s - loop.last_s < self._timing.loop_end_s:
                continue
            del loops[rule_id]
            lasted_s = duration(loop.last_s - loop.begun_s)
            why = "" if is_watched else ", as it is no longer watched"
            text = f"rule {label(loop.rule)}: the alarm loop ended after {lasted_s:.1f} s{why}"
            notices.append(_notice("ended", loop, text, duration_s=lasted_s))
        self._loops = loops
        return notices


def _notice(event: str, loop: _Loop, text: str, **more: float) -> Notice:
    fields = {
        "id": loop.rule.id,
        "name": loop.rule.name,
        "code": loop.alarm.code,
        "since": loop.alarm.since,
        "expected": loop.alarm.expected,
        "seen": loop.alarm.seen,
        "source": loop.alarm.source,
        **more,
    }
    return Notice("alarm", event, text, fields, is_warning=event == "raised")
