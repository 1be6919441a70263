"""A directory with the documents of a fleet, as `mcr fleet apply` writes them to the store.

nodes.toml               the nodes: labels and values of each
labels/KEY=VALUE.toml    for all nodes with this label (or .json)
nodes/NAME.toml          for one node (or .json)

With nodes.toml each node gets one document of its own, made of all files that are for it. Without
it, each file is a document.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..config.document import FileContent
from ..config.reader import Configuration, read_files
from ..config.writer import WrittenRule, write_toml
from ..errors import ConfigError, Problem
from .source import DOCUMENT_BYTES, FleetDocument, NodeIdentity
from .template import NodeValue, check_value, has_places, render

INVENTORY = "nodes.toml"
_SUFFIXES = {".toml", ".json"}
_KEYS = {"labels", "values"}


@dataclass(frozen=True, slots=True)
class InventoryNode:
    """A node of the inventory."""

    identity: NodeIdentity
    values: Mapping[str, NodeValue] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name."""
        return self.identity.name

    @property
    def all_values(self) -> dict[str, NodeValue]:
        """What a document may name: its values, and ``name``."""
        return {**self.values, "name": self.name}


class _File(NamedTuple):
    path: str
    text: str
    name: str


def read_fleet_directory(directory: Path) -> tuple[FleetDocument, ...]:
    """The documents that a directory wants to be in the store, sorted by name.

    Raises:
        ConfigError: with all problems: unknown values, unknown nodes, invalid configurations.
        OSError: a file cannot be read.
    """
    files, problems = _read_files(directory)
    inventory = directory / INVENTORY
    nodes = read_inventory(inventory.read_bytes()) if inventory.exists() else None
    documents = []
    for name, wanted, node in _targets(files, nodes, problems):
        try:
            documents.append(FleetDocument(name, _combined(wanted, node)))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(dict.fromkeys(problems))  # a file of many nodes has each problem once
    return tuple(sorted(documents, key=lambda each: each.name))


def read_inventory(content: bytes) -> tuple[InventoryNode, ...]:
    """The nodes that an inventory lists.

    Raises:
        ConfigError: with all problems.
    """
    try:
        tables = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([(INVENTORY, f"is not TOML: {error}")]) from None
    nodes, problems = [], list[Problem]()
    for name, table in tables.items():
        found = [Problem((INVENTORY, name, *path), text) for path, text in _mistakes(table)]
        problems += found
        if not found:
            try:
                identity = NodeIdentity(name, tuple(sorted(table.get("labels", {}).items())))
            except ValueError as error:
                problems.append(Problem((INVENTORY, name), str(error)))
            else:
                nodes.append(InventoryNode(identity, table.get("values", {})))
    if problems:
        raise ConfigError(problems)
    return tuple(nodes)


def read_rules_of(document: FleetDocument) -> Configuration:
    """The rules of a document, all parsed.

    Raises:
        ConfigError: with all problems.
    """
    return _parsed([FileContent(document.name, document.text.encode())])


def _mistakes(table: Any) -> Iterator[tuple[tuple[str, ...], str]]:  # noqa: ANN401 -- of TOML
    if not isinstance(table, dict):
        yield (), "must be a table with labels and values"
        return
    for key, value in table.items():
        if key not in _KEYS:
            yield (key,), "is unknown; a node has labels and values"
        elif not isinstance(value, dict):
            yield (key,), 'must be a table, such as { site = "ams" }'
        else:
            for name, each in value.items():
                if key == "labels":
                    mistake = None if isinstance(each, str) else "must be a string"
                else:
                    mistake = "is the node's own name" if name == "name" else None
                    mistake = mistake or check_value(name, each)
                if mistake is not None:
                    yield (key, name), mistake


def _read_files(directory: Path) -> tuple[list[_File], list[Problem]]:
    files: dict[str, _File] = {}
    problems = []
    for path in sorted((*directory.glob("labels/*"), *directory.glob("nodes/*"))):
        shown = str(path.relative_to(directory))
        if path.suffix not in _SUFFIXES or path.name.startswith("."):
            continue
        name = shown.removesuffix(path.suffix)
        try:
            _check_name(name)
            text = path.read_bytes().decode()
        except ValueError as error:
            problems.append(Problem((shown,), str(error)))
            continue
        if len(text) > DOCUMENT_BYTES:
            problems.append(Problem((shown,), f"is longer than {DOCUMENT_BYTES} bytes; divide it"))
        elif name in files:
            problems.append(Problem((shown,), f"{files[name].path} exists too; remove one"))
        files[name] = _File(shown, text, name)
    if not files and not problems:
        raise ConfigError([(str(directory), "has no nodes/NAME.toml and no labels/KEY=VALUE.toml")])
    return list(files.values()), problems


def _check_name(name: str) -> None:
    kind, _, rest = name.partition("/")
    if kind == "nodes":
        NodeIdentity(rest)
        return
    key, sign, value = rest.partition("=")
    if not sign:
        raise ValueError("the name must be KEY=VALUE, such as site=ams.toml")
    NodeIdentity("any", ((key, value),))


def _targets(
    files: list[_File], nodes: tuple[InventoryNode, ...] | None, problems: list[Problem]
) -> Iterator[tuple[str, list[_File], InventoryNode | None]]:
    """The name of each document, the files it is made of, and the node whose values they have."""
    if nodes is None:
        for file in files:
            kind, _, rest = file.name.partition("/")
            yield file.name, [file], InventoryNode(NodeIdentity(rest)) if kind == "nodes" else None
        return
    used = set()
    for node in nodes:
        names = {f"nodes/{node.name}"}
        names |= {f"labels/{key}={value}" for key, value in node.identity.labels}
        wanted = [file for file in files if file.name in names]
        used |= {file.name for file in wanted}
        if wanted:
            yield f"nodes/{node.name}", wanted, node
    for file in files:
        if file.name not in used:
            what = "is not in" if file.name.startswith("nodes/") else "is a label of no node in"
            problems.append(
                Problem((file.path,), f"{file.name.partition('/')[2]} {what} {INVENTORY}")
            )


def _combined(files: list[_File], node: InventoryNode | None) -> str:
    """The text of a document: that of its file, or the rules of several."""
    texts = [FileContent(file.path, _rendered(file, node).encode()) for file in files]
    configuration = _parsed(texts)
    if len(texts) == 1:
        return texts[0].content.decode()
    written = [
        WrittenRule(rule, wanted.enabled)
        for rule, wanted in zip(configuration.parsed, configuration.rules, strict=True)
    ]
    return write_toml({}, written, [f"From {', '.join(file.path for file in files)}."])


def _rendered(file: _File, node: InventoryNode | None) -> str:
    if not has_places(file.text):
        return file.text
    if node is None:
        raise ConfigError([Problem((file.path,), f"values of nodes need {INVENTORY}")])
    return render(file.path, file.text, node.name, node.all_values)


def _parsed(files: list[FileContent]) -> Configuration:
    configuration = read_files([FileContent("the fleet", b""), *files])
    assert configuration.parsed is not None  # raises all that is wrong
    return configuration
