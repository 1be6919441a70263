"""The view of the daemon that all answers share: the newest reading, samples and events.

Owns the connections to the daemon. However many clients ask, the daemon is read once at a time.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path

from ..client.aio import AsyncClient
from ..errors import McrError
from ..protocol.constants import EVENT_KINDS
from ..protocol.results import (
    DaemonStats,
    FlowList,
    Hello,
    InterfaceInfo,
    RuleInfo,
    RuleList,
    WorkerInfo,
)
from . import limits
from .feed import EventFeed
from .history import History

SAMPLE_S = 2.0
"""The time between two samples, in seconds."""
_PAUSE_FACTOR = 2  # the least pause, in multiples of the time that reading the daemon takes
_ASIDE_S = 10.0  # the age at which the rules that no worker has are read again
_TIMEOUT_S = 10.0
_PATIENCE_S = 4.0  # for a reading; the time limit of a scrape by Prometheus is 10 s
_STALE_S = 15.0  # the age at which a reading is worth nothing
_RETRY_S = 1.0
_KINDS = tuple(kind for kind in EVENT_KINDS if kind != "log")  # it repeats the others


@dataclass(frozen=True, slots=True)
class DaemonReading:
    """What the daemon answered at one time."""

    at_s: float
    """`time.monotonic` when it was complete."""
    hello: Hello
    stats: DaemonStats
    workers: tuple[WorkerInfo, ...]
    aside: tuple[RuleInfo, ...]
    """The rules that no worker has, because they do not fit the daemon's host now."""
    flows: FlowList
    """Those with the most datagrams, and how many there are."""


class DaemonObserver:
    """Reads the daemon, regularly and on request."""

    def __init__(self, path: Path) -> None:
        """Connect to nothing yet.

        Args:
            path: the daemon's socket, that for observers or its own.
        """
        self.path = path
        self.history = History()
        self.feed = EventFeed()
        self.failure: str | None = "the daemon has not answered yet"
        """Why the last reading failed; None if it succeeded."""
        self._reading: DaemonReading | None = None
        self._client = AsyncClient(path, timeout_s=_TIMEOUT_S)
        self._refresh: asyncio.Task[None] | None = None
        self._aside_at_s = 0.0

    async def reading(self, max_age_s: float = 0.5) -> DaemonReading | None:
        """The newest reading, or a new one if that is older; None if the daemon does not answer.

        While a daemon takes long to answer, an older reading is returned for some time.
        """
        if self._age_s() > max_age_s:
            if self._refresh is None or self._refresh.done():
                self._refresh = asyncio.create_task(self._read())
            await asyncio.wait({self._refresh}, timeout=_PATIENCE_S)
        return self._reading if self._age_s() < _STALE_S else None

    async def flows(self, rule: str | None, limit: int) -> FlowList:
        """The flows of a rule, or of all.

        Raises:
            McrError: the daemon does not answer, or has no such rule.
        """
        return await self._client.flows(None if rule is None else [rule], limit=limit)

    async def rules(self) -> RuleList:
        """All rules, with those that no worker has.

        Raises:
            McrError: the daemon does not answer.
        """
        return await self._client.rules()

    async def interfaces(self) -> tuple[InterfaceInfo, ...]:
        """The interfaces that the daemon sees.

        Raises:
            McrError: the daemon does not answer.
        """
        return await self._client.interfaces()

    async def run(self) -> None:
        """Take samples and follow events until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sample())
                group.create_task(self._follow())
        finally:
            if self._refresh is not None:
                self._refresh.cancel()
            await self._client.close()

    def _age_s(self) -> float:
        return inf if self._reading is None else time.monotonic() - self._reading.at_s

    async def _sample(self) -> None:
        sampled: DaemonReading | None = None
        while True:
            began_s = time.monotonic()
            reading = await self.reading(0)
            if reading is None:
                self.history.add_gap(round(time.time(), 3))
            elif reading is not sampled:  # else the daemon takes long, and this is an older one
                self.history.add(reading.stats)
            sampled = reading
            self.feed.send("sample", {**self.history.latest(), "failure": self.failure})
            elapsed_s = time.monotonic() - began_s
            await asyncio.sleep(max(SAMPLE_S - elapsed_s, _PAUSE_FACTOR * elapsed_s))

    async def _follow(self) -> None:
        """Follow the events across restarts of the daemon, beginning with those that it has."""
        while True:
            stream = self._client.events(_KINDS, after=self.feed.last)
            try:
                await self.feed.follow(stream)
            finally:
                with suppress(McrError):
                    await stream.close()
            await asyncio.sleep(_RETRY_S)

    async def _read(self) -> None:
        client, before = self._client, self._reading
        try:
            hello = await client.hello()
            stats = await client.stats()
            workers = await client.workers()
            flows = await client.flows(limit=limits.METRIC_FLOWS)
            is_old = time.monotonic() - self._aside_at_s > _ASIDE_S
            if before is None or before.stats.revision != stats.revision or is_old:
                stats, aside = await self._with_aside(stats)
            else:
                aside = before.aside
        except McrError as error:
            self.failure = str(error)
            self._reading = None
            return
        self.failure = None
        self._reading = DaemonReading(time.monotonic(), hello, stats, workers, aside, flows)

    async def _with_aside(self, stats: DaemonStats) -> tuple[DaemonStats, tuple[RuleInfo, ...]]:
        """Statistics, and the rules that they lack, at one revision."""
        rules = await self._client.rules()
        if rules.revision != stats.revision:
            stats = await self._client.stats()
        known = {rule.id for rule in stats.rules}
        self._aside_at_s = time.monotonic()
        return stats, tuple(
            rule for rule in rules if rule.id not in known and rule.state_code == "unresolved"
        )
