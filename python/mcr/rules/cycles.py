"""Cycles in a directed graph, found without recursion; knows nothing of rules."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def cycles(
    starts: Iterable[Node], successors: Callable[[Node], Iterable[Node]]
) -> Iterator[list[Node]]:
    """A cycle for each edge that closes one, among the nodes that `starts` reach.

    Depth first; visits each node and each edge once. Each cycle is given in the order of its edges.
    """
    finished: set[Node] = set()
    for start in starts:
        if start in finished:
            continue
        path = {start: None}  # a dict is an ordered set: the way from `start` to the node in hand
        ahead = [iter(successors(start))]
        while ahead:
            node = next(ahead[-1], None)
            if node is None:
                ahead.pop()
                finished.add(path.popitem()[0])
            elif node in path:
                way = list(path)
                yield way[way.index(node) :]
            elif node not in finished:
                path[node] = None
                ahead.append(iter(successors(node)))
