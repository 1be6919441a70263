"""What changes at the nodes of a fleet, as sentences."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from .fleet import Fleet
from .node_statuses import is_silent
from .status import NodeStatus

_LOOK_S = 1.0


class NodeEvents:
    """Compares each report of a node with the one before, and notices those that stop."""

    def __init__(self) -> None:
        """Know no node yet."""
        self._latest: dict[str, NodeStatus] = {}
        self._silent: set[str] = set()

    async def follow(self, fleet: Fleet) -> AsyncIterator[tuple[float, str]]:
        """Yield the Unix time and the sentence of each event, for as long as it is asked.

        Raises:
            SourceError: the servers did not answer at the start.
        """
        changes = fleet.changes()
        following = asyncio.ensure_future(anext(changes))
        try:
            while True:
                await asyncio.wait([following], timeout=_LOOK_S)
                if following.done():
                    before, after = following.result()
                    following = asyncio.ensure_future(anext(changes))
                    for text in self.take(before, after):
                        yield after.at, text
                for text in self.silences():
                    yield time.time(), text
        finally:
            following.cancel()

    def take(self, before: NodeStatus | None, after: NodeStatus) -> Iterator[str]:
        """The sentences about a report."""
        self._latest[after.node] = after
        if after.node in self._silent and not is_silent(after):
            self._silent.discard(after.node)
            yield f"{after.node}: reports again"
        if before is None or _decision(before) != _decision(after):
            yield _state(after)
        lost = _lost(after) - (_lost(before) if before is not None else _lost(after))
        if lost > 0:
            yield f"{after.node}: {lost} copies lost"
        alarms = after.traffic.alarms if after.traffic else 0
        if alarms != (before.traffic.alarms if before and before.traffic else 0):
            yield f"{after.node}: {alarms} alarms"

    def silences(self) -> Iterator[str]:
        """A sentence for each node that has just become silent."""
        for node, status in self._latest.items():
            if node not in self._silent and is_silent(status):
                self._silent.add(node)
                yield f"{node}: does not report any more"


def _lost(status: NodeStatus) -> int:
    return status.traffic.lost if status.traffic else 0


def _decision(status: NodeStatus) -> tuple[object, ...]:
    return status.state, status.problems, dict(status.revisions), status.rules


def _state(status: NodeStatus) -> str:
    text = f"{status.node}: {status.state.replace('_', ' ')}, {status.rules} rules"
    return f"{text}: {status.problems[0]}" if status.problems else text
