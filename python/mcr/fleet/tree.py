"""Trees of relays that deliver one stream to many nodes: who sends to whom. Pure.

A tree that exists is changed as little as possible: a node keeps its parent while that one lives,
and a node that has lost its parent moves with all that is below it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Parents = dict[str, str]
"""The parent of each node but the root."""


class TreeError(ValueError):
    """There is no tree; the text says why."""


@dataclass(slots=True)
class _Branch:
    """A node as it is placed."""

    name: str
    capacity: int
    children: list[str] = field(default_factory=list)

    @property
    def free(self) -> int:
        return self.capacity - len(self.children)


def plan_tree(root: str, capacities: Mapping[str, int], before: Parents | None = None) -> Parents:
    """The parent of each node, as near to the root as capacities allow.

    Args:
        root: the node that has the stream.
        capacities: to how many others each node may send; has the root.
        before: the tree so far. Nodes that are no longer in `capacities` are gone.

    Raises:
        TreeError: the capacities do not suffice.
    """
    try:
        return _plan(root, capacities, before or {})
    except TreeError:
        if not before:
            raise
        return _plan(root, capacities, {})  # the old tree leaves no place for what is new


def plan_disjoint_trees(
    roots: tuple[str, str],
    capacities: Mapping[str, int],
    before: tuple[Parents, Parents] | None = None,
) -> tuple[Parents, Parents]:
    """Two trees to the same nodes, in which no node but the roots sends in both.

    So the death of one node costs every other node at most one of its two copies. The tree of a
    root that is not in `capacities` is empty, and the other one stays as it is.

    Raises:
        TreeError: the capacities do not suffice, or the roots are the same.
    """
    if roots[0] == roots[1]:
        raise TreeError("two trees need two roots; name another node")
    senders = _divide(roots, capacities, before)
    trees = list[Parents]()
    for number, root in enumerate(roots):
        if root not in capacities:
            trees.append({})
            continue
        usable = {
            name: capacity if name == root or name in senders[number] else 0
            for name, capacity in capacities.items()
            if name != roots[1 - number]
        }
        trees.append(plan_tree(root, usable, before[number] if before else None))
    return trees[0], trees[1]


def changed_parents(before: Parents, after: Parents) -> tuple[str, ...]:
    """The nodes that get another parent, are new or are gone."""
    names = before.keys() | after.keys()
    return tuple(sorted(each for each in names if before.get(each) != after.get(each)))


def depths(root: str, parents: Parents) -> dict[str, int]:
    """How many relays each node is away from the root."""
    found = {root: 0}

    def depth(name: str) -> int:
        path = []
        while name not in found:
            path.append(name)
            name = parents[name]
        for number, each in enumerate(reversed(path), found[name] + 1):
            found[each] = number
        return found[path[0]] if path else found[name]

    for name in parents:
        depth(name)
    return found


def _plan(root: str, capacities: Mapping[str, int], before: Parents) -> Parents:
    branches = {name: _Branch(name, capacity) for name, capacity in capacities.items()}
    parents: dict[str, str] = {}
    for name in branches:
        parent = branches.get(before.get(name, ""))
        if name != root and parent is not None and parent.free > 0:
            parent.children.append(name)
            parents[name] = parent.name
    loose = {name: _below(name, branches) for name in branches if name not in parents}
    placed = _levels(root, branches, 0)
    del loose[root]
    # Those with the most free places first: they make room for the others.
    order = sorted(loose, key=lambda each: (-_free(loose[each], branches), each))
    for name in order:
        free = [each for each in placed if branches[each].free > 0]
        if not free:
            raise TreeError(
                f"{name} has no place: nodes may send to {sum(capacities.values())} others in all;"
                " raise fan_out or the capacity of some"
            )
        parent = branches[min(free, key=lambda each: (placed[each], -branches[each].free, each))]
        parent.children.append(name)
        parents[name] = parent.name
        placed |= _levels(name, branches, placed[parent.name] + 1)
    if len(placed) < len(branches):
        raise TreeError("the tree before has a circle")
    return parents


def _below(name: str, branches: Mapping[str, _Branch]) -> list[str]:
    return [*_levels(name, branches, 0)]


def _levels(name: str, branches: Mapping[str, _Branch], level: int) -> dict[str, int]:
    """A node and all below it, each with its distance to the root."""
    levels, left = {name: level}, [name]
    while left:
        parent = left.pop()
        for child in branches[parent].children:
            levels[child] = levels[parent] + 1
            left.append(child)
    return levels


def _free(names: Iterable[str], branches: Mapping[str, _Branch]) -> int:
    return sum(branches[each].free for each in names)


def _divide(
    roots: tuple[str, str],
    capacities: Mapping[str, int],
    before: tuple[Parents, Parents] | None,
) -> tuple[set[str], set[str]]:
    """Which nodes may send in which tree: as before, the others where capacity is missing."""
    senders: tuple[set[str], set[str]] = set(), set()
    if before is not None:
        for number in (0, 1):
            senders[number].update(set(before[number].values()) & capacities.keys())
        senders[1].difference_update(senders[0])
    sums = [sum(capacities[each] for each in found) for found in senders]
    rest = capacities.keys() - senders[0] - senders[1] - {*roots}
    for name in sorted(rest, key=lambda each: (-capacities[each], each)):
        number = 0 if sums[0] <= sums[1] else 1
        senders[number].add(name)
        sums[number] += capacities[name]
    return senders[0] - {roots[1]}, senders[1] - {roots[0]}
