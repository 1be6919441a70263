"""The command `mcr fleet tree`, which plans a tree of relays, and keeps it whole with `--auto`."""

import asyncio
import signal
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import McrError
from ..fleet.task_end import end_task
from ..fleet.tree import TreeError, changed_parents, depths
from ..fleet.tree_file import TreeFile, plan_trees, read_tree_file, tree_documents
from ..fleet.tree_memory import recall_trees, write_trees
from ..json_codec import JsonError
from ..protocol.text import printable
from .output import moment
from .progress import progress

if TYPE_CHECKING:
    from ..fleet.nats_connection import NatsSettings

Trees = tuple[dict[str, str], ...]


def tree(
    settings: "NatsSettings | None",
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
    auto: Annotated[
        bool,
        typer.Option("--auto", help="Apply it, and again without nodes that die, until Ctrl-C."),
    ] = False,
    dead_after: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=1, max=3600, help="With --auto: silent for so long is dead."
        ),
    ] = 30.0,
    back_after: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=1, max=3600, help="With --auto: reporting for so long is back."
        ),
    ] = 60.0,
) -> None:
    """Plan a balanced tree of relays that delivers a stream to many nodes.

    The tree so far is in tree.json of DIR: a node keeps its parent while that one lives. The files
    of nodes are written; mcr fleet plan shows what they change, mcr fleet apply does it.
    """
    with progress(f"reading {spec}"):
        file = read_tree_file(spec.read_bytes())
    unknown = sorted(set(without or ()) - file.nodes.keys())
    if unknown:
        raise typer.BadParameter(f"{unknown[0]} is no node of {spec}", param_hint="'--without'")
    if auto and settings is None:
        raise typer.BadParameter("needs the servers; add --nats", param_hint="'--auto'")
    if auto and without:
        raise typer.BadParameter("finds dead nodes itself", param_hint="'--auto'")
    try:
        before = () if anew else recall_trees(directory)
        with progress("planning"):
            trees = plan_trees(file, before, without or ())
    except (TreeError, JsonError) as error:
        raise McrError(str(error)) from None
    with progress(f"writing files below {directory}"):
        write_trees(directory, trees, tree_documents(file, trees))
    for number, (root, parents) in enumerate(zip(file.roots, trees, strict=True)):
        _show(root, parents)
        moved = changed_parents(before[number] if number < len(before) else {}, parents)
        print(f"{len(moved)} nodes move", flush=True)
    if auto and settings is not None:
        asyncio.run(_keep(settings, file, trees, directory, (dead_after, back_after)))


async def _keep(
    settings: "NatsSettings",
    file: TreeFile,
    trees: Trees,
    directory: Path,
    times_s: tuple[float, float],
) -> None:
    """Keep trees whole until SIGTERM or Ctrl-C."""
    fleet: Any = import_module("mcr.fleet.fleet").Fleet(settings)
    keeper_type: Any = import_module("mcr.fleet.tree_keeper").TreeKeeper
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    async with fleet:
        keeper = keeper_type(
            fleet,
            file,
            trees,
            dead_after_s=times_s[0],
            back_after_s=times_s[1],
            save=lambda trees, documents: write_trees(directory, trees, documents),
            log=_log,
        )
        running = asyncio.ensure_future(keeper.run())
        waiting = asyncio.ensure_future(ending.wait())
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        await end_task(running)


def _log(text: str) -> None:
    print(f"{moment(time.time())} {printable(text)}", flush=True)


def _show(root: str, parents: dict[str, str]) -> None:
    levels = depths(root, parents)

    def show(name: str) -> None:
        print(printable(f"{'  ' * levels[name]}{name}"))
        for child in sorted(child for child, parent in parents.items() if parent == name):
            show(child)

    show(root)
