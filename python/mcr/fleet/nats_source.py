"""A bucket of NATS JetStream as a source: the documents of a node and of its labels.

Messages about new documents are hints only, since a server may lose them, or send them for a
document that it then refuses. What counts is read, at each hint and after each pause.
"""

import asyncio
import time
from collections.abc import Sequence

from ..async_closing import AsyncClosing
from ..json_codec import encode
from .nats_connection import REQUEST_S, NatsConnection, NatsSettings
from .nats_store import RULES_BUCKET, STATUS_BUCKET, NatsStore, key_of
from .source import DOCUMENT_BYTES, FleetDocument, NodeIdentity, StoredText
from .status import NodeStatus

_REREAD_S = (0.05, 0.3, 1.0)
"""When to read again after a hint: the server that answers may not have the document yet."""
_STALE_S = 10.0
"""How long an older document than the last one is taken for that of a server that lags behind."""


class NatsSource(AsyncClosing):
    """The documents of one node in a bucket.

    Example:
        async with NatsSource(NatsSettings(("nats://ams1:4222",)), node) as source:
            await Agent(source, client, node).run()
    """

    def __init__(self, settings: NatsSettings, node: NodeIdentity) -> None:
        """Connect to nothing yet.

        Raises:
            SourceError: a certificate or credentials cannot be read.
        """
        self._node = node
        self._names = document_names(node)
        self._connection = NatsConnection(settings, inbox=inbox_of(node.name))
        self._rules = NatsStore(self._connection, RULES_BUCKET)
        self._status = NatsStore(self._connection, STATUS_BUCKET)
        self._hint = asyncio.Event()
        self._waited = False
        self._rereads: list[float] = []
        self._latest: dict[str, StoredText] = {}
        self._stale_since: dict[str, float] = {}
        self._connection.on_connected = self._note_hint
        for name in self._names:
            subject = self._rules.subject(key_of(name))
            self._connection.subscriptions[subject] = lambda _: self._note_hint()

    async def _open(self) -> None:
        self._connection.begin()

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        await self._connection.close()

    async def read(self) -> tuple[FleetDocument, ...]:
        """Return the documents that exist; see `RuleSource`."""
        self._hint.clear()
        if not self._waited:  # a start needs no warning that nothing is connected yet
            self._waited = True
            await self._connection.wait_connected(REQUEST_S)
        now_s = time.monotonic()
        self._rereads = [each for each in self._rereads if each > now_s]
        found = await asyncio.gather(*map(self._rules.get, self._names))
        return tuple(
            FleetDocument(each.name, each.text[: DOCUMENT_BYTES + 1])
            for each in map(self._newest, found)
            if each is not None
        )

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return after a hint, or after the time; see `RuleSource`."""
        left_s = min([timeout_s, *(each - time.monotonic() for each in self._rereads)])
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                await self._hint.wait()
        except TimeoutError:
            return
        now_s = time.monotonic()
        self._rereads = [now_s + each for each in _REREAD_S]

    async def report(self, status: NodeStatus) -> None:
        """Replace the status of the node; see `RuleSource`."""
        await self._status.put(self._node.name, encode(status).decode())

    def _note_hint(self) -> None:
        self._hint.set()

    def _newest(self, found: StoredText | None) -> StoredText | None:
        """What counts: not the older document of a server that lags behind for a moment.

        A store that was restored from a backup stays at older revisions; then these count.
        """
        if found is None:
            return None
        latest = self._latest.get(found.name)
        if latest is not None and found.revision < latest.revision:
            since_s = self._stale_since.setdefault(found.name, time.monotonic())
            if time.monotonic() - since_s < _STALE_S:
                return latest
        self._stale_since.pop(found.name, None)
        self._latest[found.name] = found
        return found


def document_names(node: NodeIdentity) -> Sequence[str]:
    """The names of the documents that a node follows."""
    return [*sorted(f"labels/{key}={value}" for key, value in node.labels), f"nodes/{node.name}"]


def inbox_of(node: str) -> str:
    """The prefix of the subjects to which servers answer a node: one of its own."""
    return f"_INBOX_{key_of(node)}"
