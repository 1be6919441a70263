"""Which nodes of a tree count as dead. Pure.

A node dies once it has not been seen for a while, and is back once it has been seen without a break
for a while: the first time, and twice as long for each further death within an hour. So a tree does
not follow a node that comes and goes.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from math import inf

FORGIVEN_S = 3600.0
"""A node that has not died for this time counts as new; also the longest time to be seen."""


@dataclass(slots=True)
class _Presence:
    is_seen: bool = True
    since_s: float = 0.0
    is_dead: bool = False
    deaths: int = 0
    died_at_s: float = -inf


class NodePresence:
    """Nodes that are seen or not, as time passes."""

    def __init__(
        self, nodes: Iterable[str], *, now_s: float, dead_after_s: float, back_after_s: float
    ) -> None:
        """Begin with nodes that all count as alive.

        Args:
            nodes: their names.
            now_s: the time, in seconds, as in `judge`.
            dead_after_s: how long a node is not seen until it counts as dead.
            back_after_s: how long it is seen until it counts as alive after its first death.
        """
        self._dead_after_s, self._back_after_s = dead_after_s, back_after_s
        self._nodes = {name: _Presence(since_s=now_s) for name in nodes}

    def judge(self, seen: Set[str], now_s: float) -> frozenset[str]:
        """The nodes that count as dead, if these are seen now; times must not decrease."""
        for name, node in self._nodes.items():
            if (name in seen) != node.is_seen:
                node.is_seen, node.since_s = name in seen, now_s
            lasted_s = now_s - node.since_s
            if not node.is_dead and not node.is_seen and lasted_s >= self._dead_after_s:
                node.deaths = 1 + (node.deaths if now_s - node.died_at_s < FORGIVEN_S else 0)
                node.is_dead, node.died_at_s = True, now_s
            elif node.is_dead and node.is_seen and lasted_s >= self._hold_s(node):
                node.is_dead = False
        return frozenset(name for name, node in self._nodes.items() if node.is_dead)

    def begin_again(self, now_s: float) -> None:
        """Measure from now on: until now nobody could see whether a node is there."""
        for node in self._nodes.values():
            node.since_s = now_s

    def _hold_s(self, node: _Presence) -> float:
        return min(self._back_after_s * 2.0 ** (node.deaths - 1), FORGIVEN_S)
