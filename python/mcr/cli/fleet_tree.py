"""The command `mcr fleet tree`, which plans a tree of relays."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import McrError
from ..fleet.tree import TreeError, changed_parents, depths
from ..fleet.tree_file import plan_trees, read_tree_file, tree_documents
from ..fleet.tree_memory import recall_trees, remember_trees
from ..json_codec import JsonError
from ..protocol.text import printable
from ..text_file import replace_text


def tree(
    spec: Annotated[
        Path, typer.Argument(metavar="TREE.toml", help="The stream, and the nodes it is for.")
    ],
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Gets nodes/NAME.toml, for mcr fleet apply.")
    ],
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help="A node that is dead; may be repeated."),
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Balance the tree again, whatever it was before.")
    ] = False,
) -> None:
    """Plan a balanced tree of relays that delivers a stream to many nodes.

    The tree so far is in tree.json of DIR: a node keeps its parent while that one lives. The files
    of nodes are written; mcr fleet plan shows what they change, mcr fleet apply does it.
    """
    file = read_tree_file(spec.read_bytes())
    unknown = sorted(set(without or ()) - file.nodes.keys())
    if unknown:
        raise typer.BadParameter(f"{unknown[0]} is no node of {spec}", param_hint="'--without'")
    path = directory / "tree.json"
    try:
        before = () if anew else recall_trees(path)
        trees = plan_trees(file, before, without or ())
    except (TreeError, JsonError) as error:
        raise McrError(str(error)) from None
    documents = tree_documents(file, trees)
    (directory / "nodes").mkdir(parents=True, exist_ok=True)
    for document in documents:
        replace_text(directory / f"{document.name}.toml", document.text)
    remember_trees(path, trees)
    for number, (root, parents) in enumerate(zip(file.roots, trees, strict=True)):
        _show(root, parents)
        moved = changed_parents(before[number] if number < len(before) else {}, parents)
        print(f"{len(moved)} nodes move", flush=True)


def _show(root: str, parents: dict[str, str]) -> None:
    levels = depths(root, parents)

    def show(name: str) -> None:
        print(printable(f"{'  ' * levels[name]}{name}"))
        for child in sorted(child for child, parent in parents.items() if parent == name):
            show(child)

    show(root)
