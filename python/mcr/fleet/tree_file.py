"""The file that describes a tree of relays, and the documents of its nodes.

source = "239.1.1.1%eth0:5001"      the input of the roots
deliver = "239.1.1.1%eth1:5001"     an output of every other node
port = 5100                         on which relays receive; of a second tree: the next one
fan_out = 4                         to how many others a node sends
roots = ["ams1"]                    two of them: two trees
merge = "rtp"                       what is delivered has each datagram of two trees once

[nodes.fra1]
address = "192.0.2.1%eth0"          where it receives; the root needs none
capacity = 8                        instead of fan_out
deliver = "239.9.1.1%eth2:5001"     instead of the one above
"""

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, Problem, RuleError
from ..json_codec import JsonError, JsonObject, decode
from ..rules import Rule
from .source import FleetDocument, NodeIdentity
from .tree import Parents, TreeError, plan_disjoint_trees, plan_tree

_MOST_TREES = 2


@dataclass(frozen=True, slots=True)
class TreeNode(JsonObject):
    """A node of the tree."""

    address: str = ""
    capacity: int | None = None
    deliver: str | None = None


@dataclass(frozen=True, slots=True)
class TreeFile(JsonObject):
    """What the file says."""

    source: str
    port: int
    roots: tuple[str, ...]
    nodes: Mapping[str, TreeNode]
    fan_out: int = 4
    deliver: str | None = None
    merge: str | None = None


def read_tree_file(content: bytes) -> TreeFile:
    """Read the file.

    Raises:
        ConfigError: with all problems.
    """
    try:
        given = tomllib.loads(content.decode())
        _check_keys(given)
        file = decode(TreeFile, json.dumps(given, default=str))
    except (ValueError, JsonError) as error:
        raise ConfigError([("tree", str(error))]) from None
    problems = list(_problems(file))
    if problems:
        raise ConfigError(problems)
    return file


def plan_trees(
    file: TreeFile, before: Sequence[Parents] = (), without: Iterable[str] = ()
) -> tuple[Parents, ...]:
    """The trees, one for each root, changed as little as possible.

    Args:
        file: the nodes.
        before: the trees so far, if there are any.
        without: nodes that are dead.

    Raises:
        TreeError: there is none.
    """
    gone = set(without)
    capacities = {
        name: file.fan_out if node.capacity is None else node.capacity
        for name, node in file.nodes.items()
        if name not in gone
    }
    if not any(root in capacities for root in file.roots):
        raise TreeError(f"{' and '.join(file.roots)} cannot be left out; name another root")
    if len(file.roots) == 1:
        return (plan_tree(file.roots[0], capacities, before[0] if len(before) == 1 else None),)
    two = (before[0], before[1]) if len(before) == _MOST_TREES else None
    return plan_disjoint_trees((file.roots[0], file.roots[1]), capacities, two)


def tree_documents(file: TreeFile, trees: Sequence[Parents]) -> tuple[FleetDocument, ...]:
    """The document of each node; of one that is in no tree: without rules.

    Raises:
        ConfigError: a rule is invalid.
    """
    problems, documents = list[Problem](), []
    for name in file.nodes:
        rules = []
        for rule in _rules(file, name, trees):
            try:
                rules.append(str(Rule.parse(rule)))
            except RuleError as error:
                problems += [each.under("nodes", name) for each in error.problems]
        documents.append(FleetDocument(f"nodes/{name}", f"rules = {json.dumps(rules)}\n"))
    if problems:
        raise ConfigError(problems)
    return tuple(documents)


def _rules(file: TreeFile, name: str, trees: Sequence[Parents]) -> Iterator[str]:
    """The rules of a node: what it passes on in each tree, and what it delivers."""
    node = file.nodes[name]
    deliver = node.deliver or file.deliver
    inputs = [
        f"{node.address}:{file.port + number}"
        for number, parents in enumerate(trees)
        if name in parents
    ]
    is_merged = file.merge is not None and len(inputs) == _MOST_TREES
    for number, parents in enumerate(trees):
        is_root = name == file.roots[number]
        if not is_root and name not in parents:
            continue
        outputs = _children(file, name, number, parents)
        if deliver and not is_root and not is_merged:
            outputs.append(deliver)
        source = file.source if is_root else f"{node.address}:{file.port + number}"
        if outputs:
            yield f"{source} to {' '.join(outputs)}"
    if deliver and is_merged:
        yield f"{' + '.join(inputs)},merge={file.merge} to {deliver}"


def _children(file: TreeFile, name: str, number: int, parents: Parents) -> list[str]:
    """The outputs of a node to those that receive from it in a tree."""
    return [
        f"{file.nodes[child].address.partition('%')[0]}:{file.port + number}"
        for child, parent in sorted(parents.items())
        if parent == name
    ]


def _check_keys(given: Mapping[str, Any]) -> None:
    known = {*TreeFile.__dataclass_fields__}
    tables = given.get("nodes", {})
    nodes = tables if isinstance(tables, dict) else {}
    for place, keys, allowed in (
        ("", given, known),
        *(
            (f"nodes.{name}: ", each, {*TreeNode.__dataclass_fields__})
            for name, each in nodes.items()
        ),
    ):
        for key in keys if isinstance(keys, dict) else ():
            if key not in allowed:
                raise ValueError(f"{place}{key} is unknown; known are {', '.join(sorted(allowed))}")


def _problems(file: TreeFile) -> Iterable[Problem]:
    if not 1 <= len(file.roots) <= _MOST_TREES:
        yield Problem("roots", "must name one node, or two for two trees")
    for root in file.roots:
        if root not in file.nodes:
            yield Problem("roots", f"{root} is not in nodes; add [nodes.{root}]")
    if file.merge is not None and len(file.roots) != _MOST_TREES:
        yield Problem("merge", "needs two roots; name another one, or remove it")
    if not 1 <= file.port < 1 << 16:
        yield Problem("port", "must be 1 to 65535")
    if file.fan_out < 1:
        yield Problem("fan_out", "must be at least 1")
    yield from _node_problems(file)


def _node_problems(file: TreeFile) -> Iterable[Problem]:
    for name, node in file.nodes.items():
        try:
            NodeIdentity(name)
        except ValueError as error:
            yield Problem(("nodes", name), str(error))
        if not node.address and name not in file.roots:
            yield Problem(("nodes", name, "address"), "is needed, such as 192.0.2.1%eth0")
        if node.capacity is not None and node.capacity < 0:
            yield Problem(("nodes", name, "capacity"), "must be at least 0")
