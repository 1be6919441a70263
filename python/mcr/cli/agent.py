"""The command that keeps a daemon's rules those of documents in a directory or on NATS servers."""

import asyncio
import signal
import sys
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from ..client.aio import AsyncClient
from ..fleet.agent import Agent
from ..fleet.file_source import FileSource
from ..fleet.source import NodeIdentity, RuleSource
from ..fleet.task_end import end_task
from ..protocol.text import printable
from .nats_options import CaOption, CertificateOption, CredentialsOption, KeyOption, settings_of
from .options import SocketOption
from .usage import usage_of

_TIMEOUT_S = 60.0  # thousands of rules take a while to change


def agent(
    node: Annotated[str, typer.Option(metavar="NAME", help="The name of this node.")],
    directory: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Has nodes/NAME.toml and labels/KEY=VALUE.toml."),
    ] = None,
    nats: Annotated[
        str | None,
        typer.Option(metavar="URL,...", help="NATS servers that have the documents."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A label of this node; may be repeated."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep the last documents, for a start without others."),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Also remove rules that clients have added one by one.")
    ] = False,
    creds: CredentialsOption = None,
    tls_ca: CaOption = None,
    tls_cert: CertificateOption = None,
    tls_key: KeyOption = None,
    socket: SocketOption = None,
) -> None:
    """Keep the daemon's rules those of documents for this node, until SIGTERM or Ctrl-C.

    The documents are in a directory, where the agent also writes status/NAME.json, or on NATS
    servers (mcr fleet; needs the extra fleet). One is a configuration without settings. They take
    the place of the daemon's own configuration, so that rules of mcr apply end. What is refused
    changes nothing, and is in the status of the node. A document that disappears removes no rule.
    """
    with usage_of("--node or --label"):
        identity = NodeIdentity(node, tuple(_label(text) for text in label or ()))
    if (directory is None) == (nats is None):
        raise typer.BadParameter("give one of them", param_hint="'--directory' or '--nats'")
    source: AbstractAsyncContextManager[RuleSource]
    if directory is not None:
        source, place = nullcontext(FileSource(directory, identity)), str(directory)
    else:
        settings = settings_of(nats or "", creds, tls_ca, tls_cert, tls_key)
        from ..fleet.nats_source import NatsSource  # noqa: PLC0415 -- needs the extra

        source, place = NatsSource(settings, identity), ", ".join(settings.servers)
    asyncio.run(_run(source, place, identity, state, prune, socket))


async def _run(
    opening: AbstractAsyncContextManager[RuleSource],
    place: str,
    node: NodeIdentity,
    state: Path | None,
    prune: bool,
    socket: str | None,
) -> None:
    async with AsyncClient(socket, timeout_s=_TIMEOUT_S) as client, opening as source:
        with usage_of("--state"):
            made = Agent(source, client, node, state=state, prune=prune, log=_log)
        task = asyncio.ensure_future(made.run())
        ending = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ending.set)
        _log(f"ready: node {node.name}, looks for documents in {place}")
        waiting = asyncio.ensure_future(ending.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        await end_task(task)


def _label(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"{text!r} must be KEY=VALUE, such as site=ams")
    return key, value


def _log(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)
