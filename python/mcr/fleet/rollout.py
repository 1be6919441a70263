"""Writes the documents of a plan, and waits for the nodes that follow them."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ..json_codec import JsonObject
from .fleet_plan import PlannedDocument
from .nats_store import NatsStore
from .node_statuses import NodeStatuses, is_silent
from .source import FleetDocument, SourceError, StoreConflict
from .status import NodeStatus

_WRITE_S = 10.0
"""How long servers may take to elect a leader."""
_RETRY_S = 0.5
Step = Literal["written", "applied", "refused"]


class Progress(NamedTuple):
    """A document that was written, or a node that has answered."""

    step: Step
    name: str
    """Of the document, or of the node."""
    done: int
    total: int
    """How many documents of the plan are written, or nodes of these documents have answered."""


@dataclass(frozen=True, slots=True)
class FleetResult(JsonObject):
    """What became of a plan."""

    written: Mapping[str, int] = field(default_factory=dict)
    """The revision of each document that was written, by its name."""
    applied: tuple[str, ...] = ()
    """The nodes that have the rules of all documents."""
    refused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The reasons of each node that has refused."""
    missing: tuple[str, ...] = ()
    """Nodes that have not answered in time."""
    silent: tuple[str, ...] = ()
    """Nodes that were not waited for: they do not report, or are absent. They follow later."""
    conflict: str | None = None
    """Why a document was not written, if it was changed by another client."""
    left: tuple[str, ...] = ()
    """Names of documents that were not written."""

    @property
    def is_complete(self) -> bool:
        """Whether all documents are written, and all nodes have applied them."""
        return not (self.refused or self.missing or self.silent or self.conflict or self.left)


class Rollout:
    """One run over the documents of a plan."""

    def __init__(
        self,
        store: NatsStore,
        statuses: NodeStatuses,
        timeout_s: float,
        absent: Collection[str],
        progress: Callable[[Progress], None],
    ) -> None:
        """Write nothing yet."""
        self._store, self._statuses, self._absent = store, statuses, absent
        self._timeout_s, self._progress = timeout_s, progress
        self._written: dict[str, int] = {}
        self._answered: dict[str, NodeStatus] = {}
        self._missing: set[str] = set()
        self._silent: set[str] = set()
        self._conflict: str | None = None

    async def run(self, batches: Sequence[Sequence[PlannedDocument]]) -> FleetResult:
        """Write each batch, and wait for its nodes before the next one."""
        total = sum(map(len, batches))
        for batch in batches:
            for document in batch:
                try:
                    self._written[document.name] = await self._write(document)
                except StoreConflict as error:
                    self._conflict = str(error)
                    break
                self._progress(Progress("written", document.name, len(self._written), total))
            await self._wait([each for each in batch if each.name in self._written])
            if self._conflict or self._missing or self._refused():
                break
        return self._result([each for batch in batches for each in batch])

    async def _write(self, document: PlannedDocument) -> int:
        """Write a document, again while servers elect a leader, but never twice."""
        ends_s = time.monotonic() + _WRITE_S
        while True:
            try:
                return await self._store.put(document.name, document.text, document.revision)
            except StoreConflict as error:
                found = await self._store.get(document.name)
                if found is not None and found.text == document.text:
                    return found.revision  # written before the answer was lost
                now = "deleted" if found is None else f"at revision {found.revision}"
                raise StoreConflict(f"{error} and is {now} now; plan again") from None
            except SourceError:
                if time.monotonic() > ends_s:
                    raise
            await asyncio.sleep(_RETRY_S)

    async def _wait(self, batch: Sequence[PlannedDocument]) -> None:
        """Wait until each node of the batch has answered, as long as it may take."""
        ends_s = time.monotonic() + self._timeout_s
        expected = self._followers(batch)
        total = len(expected)
        while True:
            for node in [*expected]:
                status = self._statuses.of(node)
                if status is not None and _has_decided(status, expected[node]):
                    self._answered[node] = status
                    del expected[node]
                    step: Step = "applied" if status.state == "applied" else "refused"
                    self._progress(Progress(step, node, total - len(expected), total))
            left_s = ends_s - time.monotonic()
            if not expected or left_s <= 0 or self._refused():
                self._missing |= expected.keys()
                return
            await self._statuses.wait(min(left_s, _RETRY_S))

    def _followers(self, batch: Sequence[PlannedDocument]) -> dict[str, list[PlannedDocument]]:
        """The documents of each node that is waited for; notes those that are silent."""
        nodes = {status.node: tuple(status.labels.items()) for status in self._statuses.all()}
        nodes |= {each.node: () for each in batch if each.node and each.node not in nodes}
        followers = {}
        for node, labels in nodes.items():
            documents = [each for each in batch if each.is_for(node, labels)]
            status = self._statuses.of(node)
            is_absent = status is None or is_silent(status) or node in self._absent
            if documents and is_absent:
                self._silent.add(node)
            elif documents:
                followers[node] = documents
        return followers

    def _refused(self) -> dict[str, tuple[str, ...]]:
        return {
            node: status.problems
            for node, status in sorted(self._answered.items())
            if status.state != "applied"
        }

    def _result(self, documents: Sequence[PlannedDocument]) -> FleetResult:
        refused = self._refused()
        return FleetResult(
            written=self._written,
            applied=tuple(sorted(self._answered.keys() - refused.keys())),
            refused=refused,
            missing=tuple(sorted(self._missing)),
            silent=tuple(sorted(self._silent)),
            conflict=self._conflict,
            left=tuple(each.name for each in documents if each.name not in self._written),
        )


def _has_decided(status: NodeStatus, documents: Sequence[PlannedDocument]) -> bool:
    """Whether a status is about these documents; a daemon that does not answer has not decided."""
    return status.state in {"applied", "refused"} and all(
        status.revisions.get(each.name) == FleetDocument(each.name, each.text).revision
        for each in documents
    )
