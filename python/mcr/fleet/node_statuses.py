"""What the nodes of a fleet report: the last status of each, and what has changed."""

import asyncio
import contextlib
import time
from collections.abc import Iterable

from nats.aio.msg import Msg

from ..json_codec import JsonError, decode
from .nats_connection import NatsConnection
from .nats_store import STATUS_BUCKET, NatsStore, key_of
from .source import SourceError
from .status import NodeStatus

SILENT_S = 30.0
"""A node that has not reported for this time is silent: three heartbeats were lost."""
_LATE_S = 30.0
"""A status this much older than the one before is from a node whose clock was set back."""
_REREAD_S = 2.0
_CHANGES_LIMIT = 10_000


class NodeStatuses:
    """The statuses of all nodes: read as a whole, and followed from then on."""

    def __init__(self, connection: NatsConnection) -> None:
        """Contact no server yet."""
        self._connection = connection
        self._store = NatsStore(connection, STATUS_BUCKET)
        self._latest: dict[str, NodeStatus] = {}
        self._changes: list[tuple[NodeStatus | None, NodeStatus]] = []
        self._news = asyncio.Event()
        self._follows = False
        self._read_at_s = 0.0
        # Each status that is published, to see it without asking.
        connection.subscriptions[self._store.subject("*")] = self._receive

    async def read(self) -> list[NodeStatus]:
        """Return the last status of each node, sorted by name.

        Raises:
            SourceError: no server answers, or refuses.
        """
        for each in await self._store.entries():
            self._take(key_of(each.name), each.text)
        self._read_at_s = time.monotonic()
        return sorted(self._latest.values(), key=lambda status: status.node)

    def follow(self) -> None:
        """Keep what changes from now on for `take_changes`."""
        self._follows = True

    def take_changes(self) -> Iterable[tuple[NodeStatus | None, NodeStatus]]:
        """The statuses since the last call, each with the one before."""
        changes, self._changes = self._changes, []
        return changes

    async def wait(self, timeout_s: float) -> None:
        """Return when there is a new status, or after the time; messages may be lost."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        self._news.clear()
        if time.monotonic() - self._read_at_s > _REREAD_S:
            with contextlib.suppress(SourceError):
                await self.read()

    def of(self, node: str) -> NodeStatus | None:
        """The last status of a node."""
        return self._latest.get(node)

    def all(self) -> list[NodeStatus]:
        """The last status of each node."""
        return [*self._latest.values()]

    def _receive(self, message: Msg) -> None:
        key = message.subject.rpartition(".")[2]
        self._take(key, message.data.decode(errors="replace"))

    def _take(self, key: str, text: str) -> None:
        try:
            status = decode(NodeStatus, text)
        except JsonError:
            return  # not written by an agent
        before = self._latest.get(status.node)
        if key_of(status.node) != key:
            return
        if before is not None and 0 <= before.at - status.at <= _LATE_S:
            return  # known, or it comes late
        self._latest[status.node] = status
        if self._follows and len(self._changes) < _CHANGES_LIMIT:
            self._changes.append((before, status))
        self._news.set()


def age_s(status: NodeStatus) -> float:
    """How long ago a node has reported, in seconds, by the clocks of both machines."""
    return max(0.0, time.time() - status.at)


def is_silent(status: NodeStatus) -> bool:
    """Whether a node has not reported for longer than its heartbeats allow."""
    return age_s(status) > SILENT_S
