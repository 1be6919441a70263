"""`Agent`: keeps the rules of a daemon those of the node's documents."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..client.aio import AsyncClient
from ..config.document import FileContent
from ..config.forms import wanted_forms
from ..config.reader import Configuration, read_files
from ..errors import DaemonError, McrError, RuleError
from ..protocol.results import ConfigurationResult, DaemonStats, Hello
from .memory import RememberedDocuments, recall, remember
from .source import DOCUMENT_BYTES, FleetDocument, NodeIdentity, RuleSource, SourceError
from .status import NodeState, NodeStatus, NodeTraffic, bounded

PERIOD_S = 2.0
"""The time between two comparisons with source and daemon when nothing is known to have changed."""
HEARTBEAT_S = 10.0
"""The longest time between two reports."""
ANSWER_S = 5.0
"""How long a daemon may take to greet. The client would wait longer: a change of thousands of rules
takes its time, and after the end of a daemon there may be another one."""


REPORTS_PER_HEARTBEAT = 50
"""The most reports in that time; what changes faster is reported with the next one."""


class _Outcome(NamedTuple):
    """What became of the documents."""

    state: NodeState
    problems: tuple[str, ...] = ()
    rules: int = 0


class Agent:
    """Follows a source, and applies its documents to a daemon in one transaction.

    A document that disappears removes no rule, nor does a source that cannot be read: the agent
    keeps what it has read last. A document without rules removes them.

    Example:
        node = NodeIdentity("ams1", (("site", "ams"),))
        async with mcr.AsyncClient() as client:
            await Agent(FileSource(Path("/srv/fleet"), node), client, node).run()
    """

    def __init__(
        self,
        source: RuleSource,
        client: AsyncClient,
        node: NodeIdentity,
        *,
        state: Path | None = None,
        prune: bool = False,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Read the documents of the last run; contact neither source nor daemon yet.

        Args:
            source: where the documents are.
            client: a client of the daemon.
            node: which node this is.
            state: a file that keeps the documents; None keeps them only in memory.
            prune: also remove rules that clients have added one by one.
            log: called with a sentence when something has changed.

        Raises:
            OSError: `state` cannot be read.
            JsonError: `state` has another content.
        """
        self._source, self._client, self._node = source, client, node
        self._path, self._prune, self._log = state, prune, log
        self._remembered = recall(state)
        self._outcome: _Outcome | None = None
        self._decided: tuple[FleetDocument, ...] = ()
        self._applied: tuple[FleetDocument, ...] = ()
        self._missing: set[str] = set()
        self._settled: tuple[tuple[object, ...], _Outcome] | None = None
        self._daemon_revision: int | None = None
        self._reported: tuple[object, ...] | None = None
        self._reported_at = 0.0
        self._reporting = asyncio.Lock()
        self._postponed = asyncio.Event()
        self._trouble: str | None = None
        self._trouble_logged_at = 0.0
        self._traffic: NodeTraffic | None = None

    async def run(self) -> None:
        """Follow the source until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_reporting())
            tasks.create_task(self._keep_counting())
            while True:
                await self.reconcile()
                await self._source.wait_for_change(PERIOD_S)

    async def reconcile(self) -> NodeStatus:
        """Read the documents, make the daemon's rules theirs, report; return the status."""
        await self._read()
        documents = self._remembered.documents
        outcome = await self._apply()
        if outcome != self._outcome:
            self._log_outcome(outcome)
        self._outcome, self._decided = outcome, documents
        if outcome.state == "applied":
            self._applied = documents
        return await self._report(outcome)

    async def _keep_reporting(self) -> None:
        """Report while a request to the daemon waits, and what came too soon, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S / 5):
                    await self._postponed.wait()
                await asyncio.sleep(HEARTBEAT_S / REPORTS_PER_HEARTBEAT)
            self._postponed.clear()
            if self._outcome is not None:
                await self._report(self._outcome)

    async def _keep_counting(self) -> None:
        """Read the counters of the daemon before each heartbeat, until cancelled."""
        while True:
            with contextlib.suppress(McrError):  # `state` reports that the daemon does not answer
                self._traffic = _traffic(await self._client.stats())
            await asyncio.sleep(HEARTBEAT_S)

    async def _read(self) -> None:
        try:
            documents = await self._source.read()
        except SourceError as error:
            self._note_trouble(str(error))
            return
        self._note_trouble(None)
        names = {each.name for each in documents}
        kept = tuple(each for each in self._remembered.documents if each.name not in names)
        self._note_missing({each.name for each in kept})
        if not documents:
            return
        merged = tuple(sorted((*kept, *documents), key=lambda each: each.name))
        changed = merged != self._remembered.documents
        self._remembered = RememberedDocuments(merged, time.time())
        if changed:
            try:
                remember(self._path, self._remembered)
            except OSError as error:
                self._log(f"warning: {self._path} cannot be written: {error.strerror}")

    async def _apply(self) -> _Outcome:
        documents = self._remembered.documents
        if not documents:
            return _Outcome("no_document")
        try:
            hello = await self._greet()
            key = (documents, hello.pid, hello.revision)
            if self._settled is not None and self._settled[0] == key:
                return self._settled[1]
            configuration = read_document_rules(documents)
            with configuration.placed():
                change = await self._client.apply_rules(
                    wanted_forms(configuration), prune=self._prune
                )
        except RuleError as error:
            outcome = _Outcome("refused", bounded(tuple(map(str, error.problems))))
            self._settled = key, outcome
            return outcome
        except McrError as error:
            state: NodeState = "daemon_unreachable" if isinstance(error, DaemonError) else "refused"
            return _Outcome(state, (str(error),))
        outcome = _Outcome("applied", rules=len(configuration.rules))
        self._settled = (documents, hello.pid, change.revision), outcome
        self._daemon_revision = change.revision
        if not change.is_empty:
            self._log(_sentence(change))
        return outcome

    async def _greet(self) -> Hello:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._client.hello()
        except TimeoutError:
            raise DaemonError(f"the daemon has not answered for {ANSWER_S:.0f} s") from None

    def _status(self, outcome: _Outcome) -> NodeStatus:
        return NodeStatus(
            node=self._node.name,
            labels=dict(self._node.labels),
            state=outcome.state,
            revisions={each.name: each.revision for each in self._decided},
            problems=bounded(outcome.problems),
            rules=outcome.rules,
            daemon_revision=self._daemon_revision,
            documents_at=self._remembered.read_at,
            at=time.time(),
            traffic=self._traffic,
            applied={each.name: each.revision for each in self._applied},
        )

    async def _report(self, outcome: _Outcome) -> NodeStatus:
        async with self._reporting:
            status = self._status(outcome)
            content = (replace(status, at=0.0, documents_at=None, traffic=None),)
            age_s = time.monotonic() - self._reported_at
            changed = content != self._reported
            if age_s < (HEARTBEAT_S / REPORTS_PER_HEARTBEAT if changed else HEARTBEAT_S):
                if changed:
                    self._postponed.set()
                return status
            try:
                await self._source.report(status)
            except SourceError as error:
                self._note_trouble(str(error))
            else:
                self._reported, self._reported_at = content, time.monotonic()
            return status

    def _note_missing(self, names: set[str]) -> None:
        """Log each document that the source has no more."""
        for name in sorted(names - self._missing):
            self._log(f"warning: {name} is not in the store any more; its rules stay")
        self._missing = names

    def _note_trouble(self, trouble: str | None) -> None:
        """Log that the source fails, and how old the documents are: each reason, but seldom."""
        age_s = time.monotonic() - self._trouble_logged_at
        is_new = self._trouble is None or (trouble != self._trouble and age_s > HEARTBEAT_S)
        if trouble is not None and is_new:
            self._trouble_logged_at = time.monotonic()
            read_at = self._remembered.read_at
            kept = "no document was read yet"
            if read_at is not None:
                kept = f"the rules stay as read {max(0.0, time.time() - read_at):.0f} s ago"
            self._log(f"warning: {trouble}; {kept}")
        if trouble is None or is_new:
            self._trouble = trouble

    def _log_outcome(self, outcome: _Outcome) -> None:
        for each in outcome.problems:
            self._log(f"{outcome.state.replace('_', ' ')}: {each}")


def read_document_rules(documents: tuple[FleetDocument, ...]) -> Configuration:
    """The rules of documents, which may have what included files may have.

    Raises:
        ConfigError: with all problems.
    """
    for each in documents:
        if len(each.text) > DOCUMENT_BYTES:
            raise RuleError([(each.name, f"is longer than {DOCUMENT_BYTES} bytes; divide it")])
    main = FileContent("the agent", b"")
    return read_files([main, *(FileContent(each.name, each.text.encode()) for each in documents)])


def _traffic(stats: DaemonStats) -> NodeTraffic:
    rates = [rule.rate_10s for rule in stats.rules if rule.rate_10s is not None]
    return NodeTraffic(
        matched=sum(rule.matched for rule in stats.rules),
        sent=stats.totals.sent,
        lost=stats.totals.lost,
        matched_pps=sum(rate.pps for rate in rates),
        lost_pps=sum(rate.dropped_pps for rate in rates),
        alarms=sum(len(rule.alarms) for rule in stats.rules),
        at=stats.time,
    )


def _sentence(change: ConfigurationResult) -> str:
    counts = f"{len(change.added)} added, {len(change.changed)} changed"
    return f"applied: {counts}, {len(change.removed)} removed; revision {change.revision}"
