"""The events that follow from each sample of the counters of a relay."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from .._native import CounterReading
from ..rules.expectation import Expectation
from ..rules.spec import leg_id
from ..stats.alarm import Alarm
from .budget import EventBudget
from .discards import DiscardMonitor
from .expectations import ExpectationMonitor, RuleLevel
from .legs import LegMonitor, MergeLevel
from .loops import FoundLoop, LoopMonitor
from .losses import LossMonitor, NewLoss
from .notice import Moment, Notice, WatchedRule, label
from .sequence_gaps import FlowGaps, SequenceGapMonitor
from .sources import NewSource, SourceMonitor
from .timing import Timing

_Level = tuple[int | None, float | None, float | None]
INTERVAL_S = 0.5
"""The interval of samples, as that of the samples for rates."""


class CountedFlows(Protocol):
    """Where the flows of rules are counted, by id; all return None if they are not."""

    def senders(self, rules: Sequence[str], window_ms: int, /) -> Sequence[int] | None:
        """For each rule, how many senders it heard in so many milliseconds."""

    def sequence_gaps(self, rules: Sequence[str], /) -> Sequence[FlowGaps] | None:
        """The flows in which numbers are missing."""


class CounterMonitor:
    """Compares each sample with the one before. One thread calls `sample`, any `alarms`."""

    def __init__(
        self,
        default: Expectation | None,
        flows: CountedFlows,
        ingress: str,
        timing: Timing,
    ) -> None:
        """Have no sample yet.

        Args:
            default: what rules expect that say nothing; None for nothing.
            flows: has the senders of rules, and what is missing of theirs.
            ingress: `packet` or `udp`.
            timing: when something becomes an event.
        """
        self._expectations = ExpectationMonitor(default, timing)
        self._losses = LossMonitor(timing)
        self._loops = LoopMonitor(timing)
        self._legs = LegMonitor(timing)
        self._sources = SourceMonitor(timing)
        self._budget = EventBudget()
        self._discards = DiscardMonitor()
        self._flows = flows
        self._gaps = SequenceGapMonitor()
        self._ingress = ingress
        self._window_ms = int(1000 * timing.senders_s)
        self._last: CounterReading | None = None
        self._rules: Mapping[str, WatchedRule] = {}
        self._known: tuple[WatchedRule, ...] = ()
        self._merging: tuple[WatchedRule, ...] = ()
        self._keys: list[tuple[str, bytes]] = []
        self._watched: Sequence[tuple[WatchedRule, Expectation]] = ()
        self._frames: dict[str, dict[str, int]] = {}

    def alarms(self, rule_id: str) -> tuple[Alarm, ...]:
        """The alarms of a rule."""
        monitors = (self._loops, self._expectations, self._legs)
        return tuple(alarm for each in monitors for alarm in each.alarms(rule_id))

    def forget(self) -> None:
        """Compare the next sample with none, after a pause."""
        self._last = None
        self._gaps.forget()
        self._loops.forget()
        self._legs.forget()

    def sample(
        self,
        reading: CounterReading,
        rules: Mapping[str, WatchedRule],
        others: Iterable[Notice] = (),
    ) -> list[Notice]:
        """Return what has happened since the last sample; nothing for the first one.

        Args:
            reading: the counters.
            rules: all rules, by id; another mapping if any has changed.
            others: events of this moment that do not follow from counters.
        """
        now = Moment(time.monotonic(), time.time())
        if rules is not self._rules:
            self._rules, self._known = rules, tuple(rules.values())
            self._keys = [(each.rule.id, each.keys) for each in self._known]
            self._watched = self._expectations.watched(self._known)
            self._merging = tuple(each for each in self._known if each.rule.others)
        watched, known = self._watched, self._known
        notices = [*others]
        notices += self._expectations.sample(now, watched, self._levels(reading, watched))
        interfaces = reading.interfaces(self._ingress)
        records = [*self._discards.sample(now.s, interfaces, is_first=self._last is None)]
        of_legs, losses = self._legs.sample(now, _merge_levels(reading, self._merging))
        notices += of_legs
        losses += [*self._interface_losses(interfaces), *self._sequence_gaps(rules)]
        if self._last is not None:
            lost, sources, loops = reading.changes(self._last, self._keys)
            losses += (_output_loss(known[rule], place, counts) for rule, place, counts in lost)
            changes = (NewSource(known[rule], *addresses) for rule, *addresses in sources)
            notices += self._sources.sample(now, changes)
            looped = (FoundLoop(known[rule], count, source) for rule, count, source in loops)
            notices += self._loops.sample(now, looped, rules)
        self._last = reading
        notices += self._losses.sample(now, losses)
        return [*self._budget.condense(now.s, notices), *records]

    def _levels(
        self, reading: CounterReading, watched: Sequence[tuple[WatchedRule, Expectation]]
    ) -> Iterator[RuleLevel]:
        counted = [each.rule.id for each, expect in watched if expect.sources is not None]
        found = self._flows.senders(counted, self._window_ms) if counted else None
        senders = {} if found is None else dict(zip(counted, found, strict=True))
        ids = [each.rule.id for each, _ in watched]
        several = {each.rule.id: _leg_ids(each) for each, _ in watched if each.rule.others}
        for rule_id, level in zip(ids, reading.levels(ids), strict=True):
            legs = several.get(rule_id)
            own = level if legs is None else _sum(reading.levels(legs))
            yield RuleLevel(*own, senders.get(rule_id))

    def _sequence_gaps(self, rules: Mapping[str, WatchedRule]) -> Iterator[NewLoss]:
        if self._flows.sequence_gaps([]) is None:  # else the names of all rules for nothing
            return iter(())
        return self._gaps.sample(self._flows.sequence_gaps([*rules]) or (), rules)

    def _interface_losses(self, interfaces: Iterable[Mapping[str, Any]]) -> Iterator[NewLoss]:
        before, self._frames = self._frames, {}
        for interface in interfaces:
            name = interface["name"]
            now = {
                "kernel_dropped_frames": interface["kernel_dropped_frames"],
                "truncated_by_us": interface["dropped"]["truncated_by_us"],
            }
            self._frames[name] = now
            then = before.get(name, now if self._last is None else {})
            grown = {reason: count - then.get(reason, 0) for reason, count in now.items()}
            counts = {reason: count for reason, count in grown.items() if count > 0}
            if counts:
                yield NewLoss(f"interface {name}", {"interface": name}, counts)


def _leg_ids(watched: WatchedRule) -> list[str]:
    return [leg_id(watched.rule.id, leg) for leg in range(len(watched.rule.inputs))]


def _sum(levels: Iterable[_Level]) -> _Level:
    """What all inputs of a rule receive, of which it sends each datagram once."""
    ages, pps, bits = (
        [each for each in column if each is not None] for column in zip(*levels, strict=True)
    )
    return min(ages, default=None), sum(pps) if pps else None, sum(bits) if bits else None


def _merge_levels(
    reading: CounterReading, merging: Sequence[WatchedRule]
) -> Iterator[tuple[WatchedRule, MergeLevel]]:
    merges = reading.merges([each.rule.id for each in merging]) if merging else []
    for watched, merge in zip(merging, merges, strict=True):
        ages_ms = tuple(age_ms for age_ms, *_ in reading.levels(_leg_ids(watched)))
        yield watched, MergeLevel(ages_ms, *merge)


def _output_loss(watched: WatchedRule, place: int, counts: Mapping[str, int]) -> NewLoss:
    rule, output = watched.rule, watched.resolved.outputs[place]
    address = str(output.address) if output.is_resolved else ""
    number = watched.resolved.number_of(place)
    fields = {"id": rule.id, "name": rule.name, "output": number, "address": address}
    return NewLoss(f"output {number} of rule {label(rule)}", fields, counts)
