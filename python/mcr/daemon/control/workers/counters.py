"""The counters of all workers, as one reading.

Owns how old a reading may be, and what it says of the workers: a page is read whether its worker
runs, hangs or is dead, and a successor goes on from there. How pages are read is the business of
the native core.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ...._native import CounterPages, CounterReading
from ....json_codec import encode_in_pieces
from ....protocol.results import DaemonStats, Totals
from ....stats import InterfaceStats, RuleStats
from ....stats.report import Counted, PrecedingRules, rule_stats
from ..api.jsonrpc import Encoded
from ..rules.draft import RuleRecord
from ..rules.rulebook import Rulebook
from .pool import WorkerPool
from .status import Trouble
from .worker import DeathRecord, Worker

T = TypeVar("T")
SILENCE_S = 1.0
"""After so long a worker that has not said that it is there counts as silent; it does so four times
a second."""
HANGS_S = 10.0
"""After so long one is restarted: it opens sockets for less than 9 s."""

_NOTHING = CounterPages([]).read()
"""A reading in which nobody has counted anything."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters at one moment."""

    began_s: float
    """By `time.monotonic`."""
    revision: int
    """Of the rules when it began."""
    counters: CounterReading


class WorkerCounters:
    """Reads the pages of all workers, not more often than necessary."""

    def __init__(
        self,
        pages: CounterPages,
        pool: WorkerPool,
        book: Rulebook,
        *,
        ingress: str,
        executor: Executor,
        troubles: Callable[[str], Trouble],
    ) -> None:
        """Take all that readings are made of.

        Args:
            pages: what the workers count in.
            pool: the workers.
            book: the rules.
            ingress: how they receive.
            executor: the thread in which readings become what clients see.
            troubles: what keeps a rule from working; for any thread.
        """
        self._pages = pages
        self._ingress = ingress
        self._pool = pool
        self._book = book
        self._executor = executor
        self._troubles = troubles
        self._turn = asyncio.Lock()
        self._last: Reading | None = None

    async def read(self, max_age_s: float = 0.0) -> Reading:
        """Return a reading of the rules as they are now.

        Args:
            max_age_s: how old it may be, in seconds; 0 reads the pages now.
        """
        asked_s = time.monotonic()
        async with self._turn:
            # Whoever waited here while the pages were read takes what came of it.
            last, revision = self._last, self._book.revision
            if last and last.revision == revision and last.began_s >= asked_s - max_age_s:
                return last
            began_s = time.monotonic()
            back = {each.number: _missed_by(each) for each in self._pool.workers}
            counters = await asyncio.to_thread(self._pages.read)
            self._note(counters, back)
            self._last = Reading(began_s, revision, counters)
            return self._last

    async def rule_stats(
        self, reading: Reading, rules: Mapping[str, RuleRecord]
    ) -> list[RuleStats]:
        """What these rules counted."""
        return await self._in_thread(lambda: list(self._rule_stats(reading, rules)))

    async def stats(
        self, reading: Reading, rules: Mapping[str, RuleRecord], revision: int
    ) -> Encoded:
        """The result of `stats`, in pieces."""
        return await self._in_thread(lambda: self._encoded(reading, rules, revision))

    async def daemon_stats(
        self, reading: Reading, rules: Mapping[str, RuleRecord], revision: int
    ) -> DaemonStats:
        """The counters of all interfaces and these rules."""
        return await self._in_thread(lambda: self._daemon_stats(reading, rules, revision))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def interfaces(self, reading: Reading) -> list[InterfaceStats]:
        """What all interfaces counted, in the order in which they are first named."""
        found = reading.counters.interfaces(self._ingress)
        return [InterfaceStats(**fields) for fields in found]

    def _rule_stats(self, reading: Reading, rules: Mapping[str, RuleRecord]) -> Iterator[RuleStats]:
        """One at a time, so that ten thousand are no one piece of work."""
        every, counters = self._book.rules, reading.counters

        def counted(rule_id: str) -> Counted | None:
            held = every.get(rule_id)
            if held is None or not counters.has_rule(rule_id):
                return None
            trouble, parked = self._troubles(rule_id)
            return held.rule, held.resolved, _counts(counters, held, trouble, parked)

        takers = PrecedingRules(self._book.before, counted)
        for rule_id, held in rules.items():
            trouble, parked = self._troubles(rule_id)
            if counters.has_rule(rule_id):
                yield _stats_of(held, _counts(counters, held, trouble, parked), takers)
            else:
                yield new_rule(held, trouble or self._pool.lack(rule_id), parked)

    def _encoded(self, reading: Reading, rules: Mapping[str, RuleRecord], revision: int) -> Encoded:
        return Encoded(encode_in_pieces(self._daemon_stats(reading, rules, revision), "rules"))

    def _daemon_stats(
        self, reading: Reading, rules: Mapping[str, RuleRecord], revision: int
    ) -> DaemonStats:
        interfaces = tuple(self.interfaces(reading))
        stats = tuple(self._rule_stats(reading, rules))
        return DaemonStats(
            interfaces=interfaces,
            rules=stats,
            revision=revision,
            totals=totals_of(interfaces, stats),
            stale_workers=tuple(reading.counters.stale),
        )

    def _note(self, counters: CounterReading, back: Mapping[int, DeathRecord | None]) -> None:
        """Note what a reading says of the workers.

        Args:
            counters: the reading.
            back: by worker, the death whose successor had the rules when the reading began.
        """
        told = zip(counters.alive_age_ms, counters.kernel_dropped_frames, strict=True)
        for worker, (age_ms, dropped) in zip(self._pool.workers, told, strict=True):
            worker.kernel_dropped_frames = dropped
            if (death := back[worker.number]) is not None:
                death.missed_frames = max(0, dropped - death.kernel_dropped_frames)
            age_s = HANGS_S if age_ms is None else age_ms / 1000
            worker.is_silent = worker.is_running and age_s > SILENCE_S
            if worker.is_running and age_s > HANGS_S:
                self._pool.restart(worker, f"it has been silent for {HANGS_S:.0f} s")


def _missed_by(worker: Worker) -> DeathRecord | None:
    """The death of which a reading can tell now what was missed until the successor's return."""
    death = worker.last_death
    if death is None or not death.was_seen or death.outage_ms is None:
        return None
    return death if death.missed_frames is None else None


def totals_of(interfaces: Iterable[InterfaceStats], rules: Iterable[RuleStats]) -> Totals:
    """The sums over everything."""
    interfaces = list(interfaces)
    outputs = [output for rule in rules for output in rule.outputs]
    dropped: dict[str, int] = {}
    for interface in interfaces:
        for reason, count in interface.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return Totals(
        received=sum(interface.received for interface in interfaces),
        matched=sum(interface.matched for interface in interfaces),
        dropped=dropped,
        wanted=sum(output.wanted for output in outputs),
        sent=sum(output.sent for output in outputs),
        lost=sum(output.lost for output in outputs),
        kernel_dropped_frames=sum(each.kernel_dropped_frames for each in interfaces),
    )


def new_rule(held: RuleRecord, trouble: str | None, parked: Sequence[str | None]) -> RuleStats:
    """A rule that has counted nothing yet, with what keeps it from working."""
    taken = held.resolved.input
    if trouble is None and taken.interface and not taken.ifindex:  # before a worker says so
        trouble = f"unresolved: there is no interface {taken.interface}"
    return _stats_of(held, _counts(_NOTHING, held, trouble, parked))


def _counts(
    counters: CounterReading, held: RuleRecord, trouble: str | None, parked: Sequence[str | None]
) -> dict[str, Any]:
    """What a rule counted, with what keeps it from working; zeros where nobody counts for it."""
    outputs = len(held.resolved.outputs)
    padded = [*parked[:outputs], *[None] * (outputs - len(parked))]
    return counters.rule(held.rule.id, held.enabled, trouble, padded)


def _stats_of(
    held: RuleRecord, counts: dict[str, Any], takers: PrecedingRules | None = None
) -> RuleStats:
    stats = rule_stats(held.rule, held.resolved, counts, takers)
    return stats if held.enabled else replace(stats, state="disabled")
