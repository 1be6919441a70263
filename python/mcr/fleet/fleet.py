"""`Fleet`: the documents of all nodes on NATS servers, and what the nodes report."""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence

from ..async_closing import AsyncClosing
from ..errors import ArgumentError
from ..similar_names import suggestion
from .fleet_plan import EMPTY, FleetPlan, PlannedDocument, plan_documents
from .nats_connection import REQUEST_S, NatsConnection, NatsSettings
from .nats_store import HISTORY, RULES_BUCKET, STATUS_BUCKET, STATUS_BYTES, NatsStore
from .node_statuses import NodeStatuses
from .rollout import FleetResult, Progress, Rollout
from .source import FleetDocument, SourceError, StoredText
from .status import NodeStatus

_CONNECT_S = 10.0
_HEADER_BYTES = 1024  # what a message has beside its text


class Fleet(AsyncClosing):
    """The documents and the nodes of a fleet, from any machine.

    Example:
        async with Fleet(NatsSettings(("nats://ams1:4222",))) as fleet:
            plan = await fleet.plan(read_fleet_directory(Path("fleet")))
            result = await fleet.apply(plan, canary="ams1")
    """

    def __init__(self, settings: NatsSettings) -> None:
        """Connect to nothing yet.

        Raises:
            SourceError: a certificate or credentials cannot be read.
        """
        self._connection = NatsConnection(settings)
        self._rules = NatsStore(self._connection, RULES_BUCKET)
        self._statuses = NodeStatuses(self._connection)

    async def _open(self) -> None:
        """Connect.

        Raises:
            SourceError: no server can be reached.
        """
        self._connection.begin()
        await self._connection.wait_connected(_CONNECT_S)

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        await self._connection.close()

    async def create(self, *, replicas: int = 3) -> None:
        """Create the buckets on the servers, or leave them as they are.

        Args:
            replicas: how many servers keep each document, 1, 3 or 5.

        Raises:
            SourceError: there are not that many servers, or they have the buckets otherwise.
        """
        await self._rules.create(replicas, HISTORY, None)
        await NatsStore(self._connection, STATUS_BUCKET).create(replicas, 1, STATUS_BYTES)

    async def documents(self) -> list[StoredText]:
        """Return all documents, sorted by name.

        Raises:
            SourceError: they cannot be read.
        """
        return sorted(await self._rules.entries())

    async def document(self, name: str) -> StoredText | None:
        """Return a document, or None if there is none.

        Raises:
            SourceError: it cannot be read.
        """
        return await self._rules.get(name)

    async def revisions(self) -> dict[str, int]:
        """Return the revision of each document by its name, without reading the texts.

        Raises:
            SourceError: they cannot be read.
        """
        return await self._rules.revisions()

    async def history(self, name: str) -> list[StoredText]:
        """Return the texts that a document had, up to 64, the oldest first.

        Raises:
            SourceError: they cannot be read.
        """
        return await self._rules.entries(name)

    async def nodes(self) -> list[NodeStatus]:
        """Return what each node has reported last, sorted by name.

        Raises:
            SourceError: it cannot be read.
        """
        return await self._statuses.read()

    def heard_nodes(self) -> list[NodeStatus]:
        """Return the last report of each node that was read or has arrived; ask no server."""
        return self._statuses.all()

    async def plan(self, wanted: Iterable[FleetDocument], *, prune: bool = False) -> FleetPlan:
        """Compare documents with those of the store.

        Args:
            wanted: the documents that the store should have.
            prune: also remove the rules of documents that only the store has.

        Raises:
            SourceError: the store cannot be read, or a document is longer than servers accept.
        """
        plan = plan_documents(wanted, await self.documents(), prune=prune)
        limit = self._connection.client.max_payload - _HEADER_BYTES
        for document in plan.documents:
            if len(document.text.encode()) > limit:
                raise SourceError(
                    f"{document.name} is longer than the {limit} bytes that the servers accept;"
                    " divide it, or raise their max_payload"
                )
        return plan

    async def plan_rollback(self, revision: int, names: Sequence[str] = ()) -> FleetPlan:
        """Plan to make documents again what they were at a revision.

        Args:
            revision: every later change is undone.
            names: the documents; by default all.

        Raises:
            SourceError: the store cannot be read, or has no text from before that revision.
        """
        stored = await self.documents()
        unknown = set(names) - {each.name for each in stored}
        if unknown:
            raise SourceError(f"the store has no document {sorted(unknown)[0]}")
        wanted = []
        for each in stored:
            if names and each.name not in names:
                continue
            text = each.text
            if each.revision > revision:
                text = await self._text_at(revision, each.name)
            wanted.append(FleetDocument(each.name, text))
        return plan_documents(wanted, [each for each in stored if not names or each.name in names])

    async def apply(
        self,
        plan: FleetPlan,
        *,
        canary: str | None = None,
        batch: int = 10,
        timeout_s: float = 30.0,
        absent: Collection[str] = (),
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> FleetResult:
        """Write documents, and wait after each few for the nodes that follow them.

        It stops at the first node that refuses, and where a document was changed since the plan.
        Nodes that have not reported for 30 s are not waited for.

        Args:
            plan: what to write.
            canary: a node whose document is written first, alone.
            batch: how many documents are written before their nodes are waited for.
            timeout_s: how long to wait for each of these.
            absent: nodes that are not waited for, as those that have not reported.
            progress: called for each document that is written and each node that has answered.

        Raises:
            ArgumentError: the plan has no document for `canary`, `batch` is not positive, or one of
                `absent` has neither reported nor a document in the plan.
            SourceError: the servers do not answer; what was written stays.
        """
        if batch < 1:
            raise ArgumentError("batch must be at least 1")
        batches = _batches(plan.documents, canary, batch)
        reported = {status.node for status in await self._statuses.read()}
        _check_absent(absent, plan.nodes | reported)
        self._statuses.follow()
        rollout = Rollout(self._rules, self._statuses, timeout_s, absent, progress)
        return await rollout.run(batches)

    async def changes(self) -> AsyncIterator[tuple[NodeStatus | None, NodeStatus]]:
        """Yield each report of a node with the one before, for as long as it is asked.

        Raises:
            SourceError: the servers did not answer at the start.
        """
        for status in await self._statuses.read():
            yield None, status
        self._statuses.follow()
        while True:
            for before, after in self._statuses.take_changes():
                yield before, after
            await self._statuses.wait(REQUEST_S)

    async def _text_at(self, revision: int, name: str) -> str:
        """The text that a document had at a revision; without rules if it did not exist."""
        history = await self.history(name)
        earlier = [each for each in history if each.revision <= revision]
        if earlier:
            return earlier[-1].text
        if history and not await self._rules.began_with(history[0]):
            raise SourceError(
                f"the history of {name} begins at revision {history[0].revision}; give that or a"
                " later one, or apply the documents themselves"
            )
        return EMPTY


def _check_absent(absent: Iterable[str], known: Collection[str]) -> None:
    for each in absent:
        if each not in known:
            hint = suggestion(each, known, before="; ")
            raise ArgumentError(f"{each} has neither reported nor a document in the plan{hint}")


def _batches(
    documents: tuple[PlannedDocument, ...], canary: str | None, size: int
) -> list[list[PlannedDocument]]:
    """Those for a label alone, since many nodes may follow it."""
    first = [each for each in documents if each.node == canary and canary is not None]
    if canary is not None and not first:
        raise ArgumentError(f"the plan has no document of the node {canary}")
    batches = [first] if first else []
    rest = [each for each in documents if each not in first]
    single = [each for each in rest if each.node is not None]
    batches += [[each] for each in rest if each.node is None]
    return batches + [single[at : at + size] for at in range(0, len(single), size)]
