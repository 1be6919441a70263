"""Cycles in a directed graph, found without recursion."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def cycles(
    starts: Iterable[Node], successors: Callable[[Node], Iterable[Node]]
) -> Iterator[list[Node]]:
    """Yield a cycle for each edge that closes one, among the nodes reachable from `starts`.

    A depth-first search that visits each node and edge once. The nodes of a cycle are in the order
    of its edges.
    """
    finished: set[Node] = set()
    for start in starts:
        if start in finished:
            continue
        path = {start: None}  # a dict as an ordered set: the nodes from `start` to the current one
        unvisited = [iter(successors(start))]
        while unvisited:
            node = next(unvisited[-1], None)
            if node is None:
                unvisited.pop()
                finished.add(path.popitem()[0])
            elif node in path:
                nodes = list(path)
                yield nodes[nodes.index(node) :]
            elif node not in finished:
                path[node] = None
                unvisited.append(iter(successors(node)))
