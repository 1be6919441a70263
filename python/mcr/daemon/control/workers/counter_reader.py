"""Readings of all workers' counters, and the statistics that clients get from them.

Owns the age of readings, and what they reveal about workers: silence, and frames missed during an
outage. The native core reads the pages, whether their workers run, hang or are dead.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from ...._native import CounterPages, CounterReading
from ....alarms.monitor import CounterMonitor
from ....alarms.notice import Notice
from ....alarms.timing import Timing
from ....alarms.troubles import Trouble
from ....json_codec import encode_in_pieces
from ....log_levels import logger_of
from ....protocol.results import DaemonStats, Totals
from ....rules.expectation import Expectation
from ....stats import FlowStats, InterfaceStats, RuleStats, report
from ....stats.classes import class_stats
from ....stats.merge import with_legs
from ....stats.report import (
    PrecedingRules,
    RuleCounts,
    flow_stats,
    interface_stats,
    rule_stats,
    with_latency,
)
from ....stats.rule_state import InputTrouble
from ..api.jsonrpc import Encoded
from ..rules.draft import RuleRecord
from ..rules.rulebook import Rulebook
from .pool import WorkerPool
from .worker import DeathRecord, Worker

T = TypeVar("T")
SILENCE_S = 1.0
"""A worker without a sign of life for this long is silent; it gives four a second."""
HANGS_S = 10.0
"""A worker that is silent for this long is restarted; opening sockets takes it less than 9 s."""

_log = logger_of("stats")
_EMPTY = CounterPages([]).read()
"""A reading without workers."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one moment."""

    began_s: float
    """The time when the reading began (`time.monotonic`)."""
    revision: int
    """The revision of the rules at that time."""
    counters: CounterReading


class CounterReader:
    """Reads the pages of all workers, as rarely as callers permit."""

    def __init__(
        self,
        pages: CounterPages,
        pool: WorkerPool,
        book: Rulebook,
        *,
        ingress: str,
        executor: Executor,
        troubles: Callable[[str], Trouble],
        began_s: float,
        expect: Expectation | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            pages: the workers' pages of counters.
            pool: the workers.
            book: the rules.
            ingress: the ingress of all workers.
            executor: the thread that creates statistics from readings.
            troubles: returns the troubles of a rule; thread-safe.
            began_s: when control started (`time.monotonic`).
            expect: what rules expect that say nothing.
        """
        self._monitor = CounterMonitor(expect, pages, ingress, Timing())
        self._pages = pages
        self._ingress = ingress
        self._pool = pool
        self._book = book
        self._executor = executor
        self._troubles = troubles
        self._began_s = began_s
        self._lock = asyncio.Lock()
        self._last: Reading | None = None
        self._stale: frozenset[int] = frozenset()

    @property
    def uptime_s(self) -> float:
        """The time since control started, in seconds."""
        return round(time.monotonic() - self._began_s, 3)

    async def read(self, max_age_s: float = 0.0) -> Reading:
        """Return a reading of the current revision.

        Args:
            max_age_s: the largest age of the reading, in seconds; 0 reads the pages now.
        """
        asked_s = time.monotonic()
        async with self._lock:
            # A call that waited here for another one's reading returns the same reading.
            last, revision = self._last, self._book.revision
            if last and last.revision == revision and last.began_s >= asked_s - max_age_s:
                return last
            began_s = time.monotonic()
            deaths = {each.number: _unmeasured_death(each) for each in self._pool.workers}
            counters = await asyncio.to_thread(self._pages.read)
            self._update_workers(counters, deaths)
            self._report_stale(counters.stale)
            self._last = Reading(began_s, revision, counters)
            return self._last

    async def watch(self, reading: Reading) -> list[Notice]:
        """The events that follow from this reading and the last one that was given here."""
        rules = self._book.rules
        return await self._in_thread(lambda: self._monitor.sample(reading.counters, rules))

    async def rule_stats(
        self, reading: Reading, rules: Mapping[str, RuleRecord]
    ) -> list[RuleStats]:
        """The statistics of these rules."""
        return await self._in_thread(lambda: list(self._rule_stats(reading, rules)))

    async def flows(self, rule_ids: Iterable[str]) -> list[FlowStats] | None:
        """The flows of these rules; None if no worker counts flows."""
        ids = list(rule_ids)

        def read() -> list[FlowStats] | None:
            flows = self._pages.flows(ids)
            return None if flows is None else [*map(flow_stats, flows)]

        return await self._in_thread(read)

    async def stats(
        self, reading: Reading, rules: Mapping[str, RuleRecord], revision: int
    ) -> Encoded:
        """The result of the method `stats`, as JSON in pieces."""
        return await self._in_thread(lambda: self._encode(reading, rules, revision))

    async def daemon_stats(
        self, reading: Reading, rules: Mapping[str, RuleRecord], revision: int
    ) -> DaemonStats:
        """The statistics of all interfaces and these rules."""
        return await self._in_thread(lambda: self._daemon_stats(reading, rules, revision))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def interfaces(self, reading: Reading) -> list[InterfaceStats]:
        """The statistics of all interfaces, in the order of their first appearance in pages."""
        every = reading.counters.interfaces(self._ingress)
        return [interface_stats(fields) for fields in every]

    def _rule_stats(self, reading: Reading, rules: Mapping[str, RuleRecord]) -> Iterator[RuleStats]:
        """Yield the statistics of one rule at a time, so that other threads can run in between."""
        all_rules, counters = self._book.rules, reading.counters

        def rule_counts(rule_id: str) -> RuleCounts | None:
            record = all_rules.get(rule_id)
            if record is None or not counters.has_rule(rule_id):
                return None
            counts = self._counts(counters, record, self._troubles(rule_id))
            return RuleCounts(record.rule, record.resolved, counts)

        preceding = PrecedingRules(self._book.before, rule_counts)
        for rule_id, record in rules.items():
            troubles = self._troubles(rule_id)
            if counters.has_rule(rule_id):
                counts = self._counts(counters, record, troubles)
                alarms = self._monitor.alarms(rule_id)
                yield rule_stats(record.rule, record.resolved, counts, preceding, alarms=alarms)
            else:
                refusal = troubles.trouble or self._pool.refusal_of(rule_id)
                yield new_rule_stats(record, troubles._replace(trouble=refusal))

    def _counts(
        self, counters: CounterReading, record: RuleRecord, troubles: Trouble
    ) -> dict[str, Any]:
        """The counters and troubles of a rule with all of its inputs."""

        def leg_counts(leg: str) -> dict[str, Any]:
            counts = counters.rule(leg, record.enabled, [], b"")
            return counts | {"trouble": self._troubles(leg).trouble}

        return with_legs(record.resolved, _counts(counters, record, troubles), leg_counts)

    def _encode(self, reading: Reading, rules: Mapping[str, RuleRecord], revision: int) -> Encoded:
        return Encoded(encode_in_pieces(self._daemon_stats(reading, rules, revision), "rules"))

    def _daemon_stats(
        self, reading: Reading, rules: Mapping[str, RuleRecord], revision: int
    ) -> DaemonStats:
        interfaces = tuple(self.interfaces(reading))
        if rules is not self._book.rules:
            interfaces = tuple(_of_rules(interfaces, rules))
        latency = self._pages.latency(list(rules))
        stats = tuple(with_latency(self._rule_stats(reading, rules), latency))
        return DaemonStats(
            interfaces=interfaces,
            rules=stats,
            revision=revision,
            totals=totals_of(interfaces, stats),
            stale_workers=tuple(reading.counters.stale),
            classes=class_stats(self._book.shaping, (each.rule for each in rules.values()), stats),
            time=round(time.time(), 3),
            uptime_s=self.uptime_s,
        )

    def _report_stale(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            if number not in self._stale:
                text = "the counters of worker %d cannot be read; its last ones count"
                _log.warning(text, number, extra={"worker": number})
        self._stale = frozenset(numbers)

    def _update_workers(
        self, counters: CounterReading, deaths: Mapping[int, DeathRecord | None]
    ) -> None:
        """Record silence and missed frames of each worker; restart a worker that hangs.

        Args:
            counters: the reading.
            deaths: for each worker, the death whose missed frames this reading reveals.
        """
        facts = zip(counters.alive_age_ms, counters.kernel_dropped_frames, strict=True)
        for worker, (age_ms, dropped) in zip(self._pool.workers, facts, strict=True):
            worker.kernel_dropped_frames = dropped
            if (death := deaths[worker.number]) is not None:
                death.missed_frames = max(0, dropped - death.kernel_dropped_frames)
            age_s = HANGS_S if age_ms is None else age_ms / 1000
            worker.is_silent = worker.is_running and age_s > SILENCE_S
            if worker.is_running and age_s > HANGS_S:
                self._pool.restart(worker, f"it has been silent for {HANGS_S:.0f} s")


def _unmeasured_death(worker: Worker) -> DeathRecord | None:
    """The last death, if a reading that begins now reveals the frames missed in its outage."""
    death = worker.last_death
    if death is None or not death.was_observed or death.outage_ms is None:
        return None
    return death if death.missed_frames is None else None


def _of_rules(
    interfaces: Iterable[InterfaceStats], rules: Mapping[str, RuleRecord]
) -> Iterator[InterfaceStats]:
    """The interfaces of the inputs of these rules."""
    inputs = [record.resolved.input for record in rules.values()]
    names = {name for each in inputs for name in (each.interface, each.device)}
    everywhere = any(each.everywhere for each in inputs)
    return (each for each in interfaces if everywhere or each.name in names)


def totals_of(interfaces: Iterable[InterfaceStats], rules: Iterable[RuleStats]) -> Totals:
    """The sums over all interfaces and rules."""
    interfaces = list(interfaces)
    outputs = [output for rule in rules for output in rule.outputs]
    dropped: dict[str, int] = {}
    for interface in interfaces:
        for reason, count in interface.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return Totals(
        received=sum(interface.received for interface in interfaces),
        received_bytes=sum(interface.received_bytes for interface in interfaces),
        matched=sum(interface.matched for interface in interfaces),
        dropped=dropped,
        wanted=sum(output.wanted for output in outputs),
        sent=sum(output.sent for output in outputs),
        lost=sum(output.lost for output in outputs),
        kernel_dropped_frames=sum(each.kernel_dropped_frames for each in interfaces),
    )


def new_rule_stats(record: RuleRecord, troubles: Trouble) -> RuleStats:
    """The statistics of a rule that no worker has counted yet, with its troubles."""
    return rule_stats(
        record.rule, record.resolved, _counts(_EMPTY, record, _known(record, troubles))
    )


def new_rule_state(record: RuleRecord, troubles: Trouble) -> RuleStats:
    """The same without the outputs."""
    trouble, parked, engine = _known(record, troubles)
    counts = _EMPTY.rule(record.rule.id, record.enabled, [], b"")
    counts |= {"trouble": trouble, "offload_detail": engine}
    return report.new_rule_stats(record.rule, record.resolved, counts, parked)


def _known(record: RuleRecord, troubles: Trouble) -> Trouble:
    """The troubles, before a worker has reported a missing interface too."""
    source = record.resolved.input
    if troubles.trouble is not None or not source.interface or source.ifindex:
        return troubles
    missing = InputTrouble("unresolved", f"there is no interface {source.interface}")
    return troubles._replace(trouble=missing)


def _counts(counters: CounterReading, record: RuleRecord, troubles: Trouble) -> dict[str, Any]:
    """The counters and troubles of a rule; zeros if no worker has counted it."""
    outputs = len(record.resolved.outputs)
    trouble, parked, engine = troubles
    padded = [*parked[:outputs], *[None] * (outputs - len(parked))]
    known = {"trouble": trouble, "offload_detail": engine}
    return counters.rule(record.rule.id, record.enabled, padded, record.keys) | known
