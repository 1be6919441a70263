"""What all workers count, as one reading.

Owns how their reports are added up and how long a report is good for. A worker that is dead or
does not answer is in with what it last said: its successor goes on from there.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from ...._native import LOSSES
from ....json_codec import encode_in_pieces
from ....protocol.results import DaemonStats, Totals
from ....stats import InterfaceStats, RuleStats
from ....stats.report import Counted, Takers, rule_stats
from ..api.jsonrpc import Encoded
from ..rules.draft import RuleRecord
from ..rules.rulebook import Rulebook
from .channel import ChannelLost, WorkerChannel, WorkerRefused
from .messages import InterfaceReport, OutputReport, RuleReport
from .pool import WorkerPool
from .status import Trouble
from .worker import Report, Worker

WAIT_S = 2.0
"""How long a reading waits for a worker that is telling, in seconds; then its last word counts."""
SILENCE_S = 0.4
"""How long it waits for one that says nothing: an answer comes within a second all the same."""
_SPARE_PARTS = 16  # of a report, beside those for the rules there are

_INTERFACE_SUMS = ("received", "matched", "kernel_dropped_frames", "buffer_waits")
_OUTPUT_SUMS = ("wanted", "sent", "sent_bytes", "pending", "refused")
_RULE_SUMS = ("matched", "matched_bytes", "group_seen")


@dataclass(frozen=True, slots=True)
class Collected:
    """The last report of each worker."""

    began_s: float
    """By `time.monotonic`."""
    revision: int
    """Of the rules when it was asked for."""
    reports: tuple[Report, ...]
    stale_workers: tuple[int, ...]
    """Numbers of those that did not answer now."""


@dataclass(frozen=True, slots=True)
class _Question:
    """A worker that was asked and has not told all yet."""

    task: asyncio.Task[None]
    link: WorkerChannel
    asked_s: float
    """By `time.monotonic`."""

    @property
    def ends_s(self) -> float:
        """Until when it may say nothing before it counts as silent."""
        return max(self.asked_s, self.link.heard_s) + SILENCE_S


class WorkerReports:
    """Asks the workers, not more often than it takes."""

    def __init__(
        self,
        pool: WorkerPool,
        book: Rulebook,
        executor: Executor,
        troubles: Callable[[str], Trouble],
    ) -> None:
        """Take all that readings are made of.

        Args:
            pool: the workers.
            book: the rules.
            executor: the thread in which readings are put together.
            troubles: what is known of a rule that is newer than all reports; for any thread.
        """
        self._pool = pool
        self._book = book
        self._executor = executor
        self._troubles = troubles
        self._turn = asyncio.Lock()
        self._last: Collected | None = None
        self._asking: dict[int, _Question] = {}

    async def collect(self, rules: int, revision: int, max_age_s: float = 0.0) -> Collected:
        """Reports on these rules that are no older than this when asked for.

        Args:
            rules: how many there are.
            revision: theirs; what was reported at another does not know the newest of them.
            max_age_s: in seconds; 0 asks the workers.
        """
        asked_s = time.monotonic()
        async with self._turn:
            # Whoever waited here while others were asked takes what came of it.
            last = self._last
            if last and last.revision == revision and last.began_s >= asked_s - max_age_s:
                return last
            began_s = time.monotonic()
            await self._ask_all(rules)
            self._note_silence()
            self._last = Collected(
                began_s,
                revision,
                tuple(worker.report for worker in self._pool.workers if worker.report),
                tuple(
                    worker.number
                    for worker in self._pool.workers
                    if worker.report is None or worker.report.taken_s < began_s
                ),
            )
            return self._last

    async def rule_stats(
        self, collected: Collected, rules: Mapping[str, RuleRecord]
    ) -> list[RuleStats]:
        """What these rules counted."""
        work = lambda: list(self._read(collected, rules))  # noqa: E731
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def stats(
        self, collected: Collected, rules: Mapping[str, RuleRecord], revision: int
    ) -> Encoded:
        """The result of `stats`, in pieces."""
        work = lambda: _encoded(collected, self._read(collected, rules), revision)  # noqa: E731
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _read(self, collected: Collected, rules: Mapping[str, RuleRecord]) -> Iterator[RuleStats]:
        """One at a time, so that ten thousand are no one piece of work."""
        now_s = time.monotonic()
        every = self._book.rules

        def reported(rule_id: str) -> list[tuple[RuleReport, float]]:
            return [
                (each.rules[rule_id], now_s - each.taken_s)
                for each in collected.reports
                if rule_id in each.rules
            ]

        def counted(rule_id: str) -> Counted | None:
            held, found = every.get(rule_id), reported(rule_id)
            if held is None or not found:
                return None
            return held.rule, held.resolved, _merged(held, found)

        takers = Takers(self._book.before, counted)
        for rule_id, held in rules.items():
            found = reported(rule_id)
            if found:
                yield one_rule(held, found, takers)
                continue
            trouble, parked = self._troubles(rule_id)
            yield new_rule(held, trouble or self._pool.lack(rule_id), parked)

    async def _ask_all(self, rules: int) -> None:
        now_s = began_s = time.monotonic()
        for worker in self._pool.running:
            is_idle = worker.number not in self._asking
            # By older rules there may be more of them than the answer has room for.
            if is_idle and worker.synced and worker.link is not None:
                task = asyncio.create_task(self._ask(worker, rules))
                self._asking[worker.number] = _Question(task, worker.link, now_s)
        while hopeful := [each for each in self._asking.values() if each.ends_s > now_s]:
            ends_s = min(began_s + WAIT_S, *(each.ends_s for each in hopeful))
            tasks = [each.task for each in hopeful]
            if ends_s <= now_s:
                return
            await asyncio.wait(tasks, timeout=ends_s - now_s)
            now_s = time.monotonic()

    def _note_silence(self) -> None:
        now_s = time.monotonic()
        for worker in self._pool.workers:
            question = self._asking.get(worker.number)
            worker.is_silent = question is not None and question.ends_s <= now_s

    async def _ask(self, worker: Worker, rules: int) -> None:
        """Get a worker's report; one that does not answer at all is given up by its link."""
        try:
            link = worker.link
            if link is None:
                return
            parts = await link.parts({"do": "report"}, rules + _SPARE_PARTS)
            before, worker.report = worker.report, Report(parts, time.monotonic())
            _note_missed(worker, before)
        except (ChannelLost, WorkerRefused):
            pass  # what it said last stays in
        finally:
            del self._asking[worker.number]


def _note_missed(worker: Worker, before: Report | None) -> None:
    """What the kernel dropped between a worker's last word and its successor's first."""
    death = worker.last_death
    if death is None or not death.was_seen:
        return
    if death.outage_ms is None or death.missed_frames is not None:
        return
    assert worker.report is not None  # it has just come
    missed = worker.report.kernel_dropped_frames()
    if before is not None:
        missed -= before.kernel_dropped_frames()
    death.missed_frames = max(0, missed)


def interfaces_of(collected: Collected) -> list[InterfaceStats]:
    """The interfaces of all workers, added up, in the order in which they are first named."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for report in collected.reports:
        for part in report.parts:
            for one in part.get("interfaces", []):
                _add_interface(found, one)
    return [InterfaceStats(**fields) for fields in found.values()]


def totals_of(interfaces: Iterable[InterfaceStats], rules: Iterable[RuleStats]) -> Totals:
    """The sums over everything."""
    interfaces = list(interfaces)
    outputs = [output for rule in rules for output in rule.outputs]
    dropped: dict[str, int] = {}
    for interface in interfaces:
        _add_counts(dropped, interface.dropped)
    return Totals(
        received=sum(interface.received for interface in interfaces),
        matched=sum(interface.matched for interface in interfaces),
        dropped=dropped,
        wanted=sum(output.wanted for output in outputs),
        sent=sum(output.sent for output in outputs),
        lost=sum(output.lost for output in outputs),
        kernel_dropped_frames=sum(each.kernel_dropped_frames for each in interfaces),
    )


def _encoded(collected: Collected, rules: Iterable[RuleStats], revision: int) -> Encoded:
    interfaces, stats = tuple(interfaces_of(collected)), tuple(rules)
    result = DaemonStats(
        interfaces=interfaces,
        rules=stats,
        revision=revision,
        totals=totals_of(interfaces, stats),
        stale_workers=collected.stale_workers,
    )
    return Encoded(encode_in_pieces(result, "rules"))


def one_rule(
    held: RuleRecord, found: Iterable[tuple[RuleReport, float]], takers: Takers | None = None
) -> RuleStats:
    """What one rule counted, from what each worker says of it and how many seconds ago."""
    return _stats_of(held, _merged(held, found), takers)


def _merged(held: RuleRecord, found: Iterable[tuple[RuleReport, float]]) -> dict[str, Any]:
    merged = _nothing_counted(held)
    for report, age_s in found:
        if len(report["outputs"]) == len(merged["outputs"]):  # else of what it was before
            _add_rule(merged, report, round(age_s * 1000))
    return merged


def _stats_of(held: RuleRecord, merged: dict[str, Any], takers: Takers | None = None) -> RuleStats:
    stats = rule_stats(held.rule, held.resolved, merged, takers)
    return stats if held.enabled else replace(stats, state="disabled")


def new_rule(held: RuleRecord, trouble: str | None, parked: Sequence[str | None]) -> RuleStats:
    """A rule that has counted nothing yet, with what keeps it from working."""
    taken = held.resolved.input
    if trouble is None and taken.interface and not taken.ifindex:  # before a worker says so
        trouble = f"unresolved: there is no interface {taken.interface}"
    report = _nothing_counted(held) | {"trouble": trouble}
    for output, why in zip(report["outputs"], parked, strict=False):
        output["parked"] = why
    return _stats_of(held, report)


def _nothing_counted(held: RuleRecord) -> dict[str, Any]:
    outputs: list[dict[str, Any]] = [
        {
            "parked": None,
            "dropped": dict.fromkeys(LOSSES, 0),
            "errors": {},
            "lost_reason": None,
            "lost_age_ms": None,
            "refused_age_ms": None,
            **dict.fromkeys(_OUTPUT_SUMS, 0),
        }
        for _ in held.resolved.outputs
    ]
    return {
        "key": 0,
        "enabled": held.enabled,
        "trouble": None,
        "last_source": None,
        "last_seen_age_ms": None,
        "group_seen_age_ms": None,
        "other_port": None,
        "other_source": None,
        "outputs": outputs,
        **dict.fromkeys(_RULE_SUMS, 0),
    }


def _add_rule(merged: dict[str, Any], report: RuleReport, age_ms: int) -> None:
    for name in _RULE_SUMS:
        merged[name] += report[name]  # type: ignore[literal-required]
    merged["trouble"] = merged["trouble"] or report["trouble"]
    if _is_newer(merged, "last_seen_age_ms", report["last_seen_age_ms"], age_ms):
        merged["last_source"] = report["last_source"]
    if _is_newer(merged, "group_seen_age_ms", report["group_seen_age_ms"], age_ms):
        for name in ("other_port", "other_source"):
            merged[name] = report[name]  # type: ignore[literal-required]
    for into, output in zip(merged["outputs"], report["outputs"], strict=True):
        _add_output(into, output, age_ms)


def _add_output(into: dict[str, Any], output: OutputReport, age_ms: int) -> None:
    for name in _OUTPUT_SUMS:
        into[name] += output[name]  # type: ignore[literal-required]
    into["parked"] = into["parked"] or output["parked"]
    if _is_newer(into, "lost_age_ms", output["lost_age_ms"], age_ms):
        into["lost_reason"] = output["lost_reason"]
    _is_newer(into, "refused_age_ms", output["refused_age_ms"], age_ms)
    _add_counts(into["dropped"], output["dropped"])
    _add_counts(into["errors"], output["errors"])


def _is_newer(into: dict[str, Any], name: str, reported_ms: int | None, age_ms: int) -> bool:
    """Put the age of what happened last in; whether it is that of this report.

    Args:
        into: where ages are collected.
        name: of the age.
        reported_ms: the age that a worker tells.
        age_ms: that of its report.
    """
    if reported_ms is None or (into[name] is not None and into[name] <= reported_ms + age_ms):
        return False
    into[name] = reported_ms + age_ms
    return True


def _add_interface(found: dict[tuple[str, str], dict[str, Any]], one: InterfaceReport) -> None:
    into = found.get((one["name"], one["ingress"]))
    if into is None:
        found[one["name"], one["ingress"]] = {**one, "dropped": dict(one["dropped"])}
        return
    for name in _INTERFACE_SUMS:
        into[name] += one[name]  # type: ignore[literal-required]
    into["error"] = into["error"] or one["error"]
    _add_counts(into["dropped"], one["dropped"])


def _add_counts(into: dict[str, int], counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        into[name] = into.get(name, 0) + count
