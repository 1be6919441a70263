"""The command that keeps a daemon's rules those of documents in a directory."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..client.aio import AsyncClient
from ..fleet.agent import Agent
from ..fleet.file_source import FileSource
from ..fleet.source import NodeIdentity
from ..protocol.text import printable
from .options import SocketOption
from .usage import usage_of

_TIMEOUT_S = 60.0  # thousands of rules take a while to change


def agent(
    directory: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Has nodes/NAME.toml and labels/KEY=VALUE.toml."),
    ],
    node: Annotated[str, typer.Option(metavar="NAME", help="The name of this node.")],
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A label of this node; may be repeated."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep the last documents, for a start without DIR."),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Also remove rules that other clients have added.")
    ] = False,
    socket: SocketOption = None,
) -> None:
    """Keep the daemon's rules those of documents in a directory, until SIGTERM or Ctrl-C.

    A document is a configuration without settings. What is refused changes nothing, and is in
    status/NAME.json of the directory. A document that disappears removes no rule.
    """
    with usage_of("--node or --label"):
        labels = tuple(_label(text) for text in label or ())
        identity = NodeIdentity(node, labels)
    asyncio.run(_run(directory, identity, state, prune, socket))


async def _run(
    directory: Path, node: NodeIdentity, state: Path | None, prune: bool, socket: str | None
) -> None:
    source = FileSource(directory, node)
    async with AsyncClient(socket, timeout_s=_TIMEOUT_S) as client:
        with usage_of("--state"):
            made = Agent(source, client, node, state=state, prune=prune, log=_log)
        task = asyncio.ensure_future(made.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        _log(f"ready: node {node.name}, documents in {directory}")
        try:
            await task
        except asyncio.CancelledError:
            return


def _label(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"{text!r} must be KEY=VALUE, such as site=ams")
    return key, value


def _log(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)
