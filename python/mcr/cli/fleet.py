"""The commands `mcr fleet ...`, which show and change the documents of many nodes."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Collection
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import typer

from ..errors import McrError
from ..protocol.text import printable
from .fleet_output import (
    history_rows,
    node_rows,
    show_plan,
    show_progress,
    show_result,
    status_lines,
)
from .fleet_tree import tree
from .help import CommandGroup, add_command, epilog_of
from .nats_options import check_libraries, with_servers
from .output import moment, show_table
from .progress import progress
from .top import check_screen

if TYPE_CHECKING:
    from ..fleet.fleet import Fleet
    from ..fleet.fleet_plan import FleetPlan
    from ..fleet.nats_connection import NatsSettings

T = TypeVar("T")

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=False,
    help="Show and change the rules of many hosts on NATS servers.\n\nmcr agent makes them those of"
    " its daemon. Needs the extra fleet.",
    epilog=epilog_of(["mcr fleet plan /srv/fleet --nats nats://ams1:4222"]),
)

_Directory = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="Has nodes/NAME.toml and labels/KEY=VALUE.toml, maybe nodes.toml."
    ),
]
_Document = Annotated[
    str, typer.Argument(metavar="DOCUMENT", help="Such as nodes/ams1 or labels/site=ams.")
]
_Prune = Annotated[
    bool,
    typer.Option("--prune", help="Also remove the rules of documents that DIR does not have."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_Canary = Annotated[
    str | None,
    typer.Option(metavar="NODE", help="Write the document of this node first, and wait for it."),
]
_Batch = Annotated[
    int,
    typer.Option(metavar="N", min=1, max=10_000, help="Documents before their nodes must answer."),
]
_Absent = Annotated[
    list[str] | None,
    typer.Option(metavar="NODE", help="A node that is not waited for; may be repeated."),
]
_Timeout = Annotated[
    float,
    typer.Option(metavar="SECONDS", min=0.1, max=3600, help="How long nodes may take to answer."),
]


class _Rollout(NamedTuple):
    """In which order documents are written, and which nodes are waited for."""

    canary: str | None
    batch: int
    timeout_s: float
    absent: Collection[str]


def create(
    settings: "NatsSettings",
    replicas: Annotated[
        int, typer.Option(metavar="N", min=1, max=5, help="How many servers keep each document.")
    ] = 3,
) -> None:
    """Create the store of a fleet on the servers, or leave it as it is."""
    _ask(settings, lambda fleet: fleet.create(replicas=replicas))


def nodes(settings: "NatsSettings", as_json: _Json = False) -> None:
    """List the nodes: state, rules, traffic, and when each has reported last."""
    found = _ask(settings, lambda fleet: fleet.nodes())
    if as_json:
        print(json.dumps([each.as_dict() for each in found]), flush=True)
        return
    headings, rows, styles = node_rows(found)
    show_table(headings, rows, styles)


def status(
    settings: "NatsSettings",
    node: Annotated[str, typer.Argument(metavar="NODE", help="The name of the node.")],
    as_json: _Json = False,
) -> None:
    """Show what a node has reported last, with the reasons if it refuses its documents."""
    found = {each.node: each for each in _ask(settings, lambda fleet: fleet.nodes())}
    if node not in found:
        raise McrError(f"{node} has not reported yet; mcr fleet nodes lists those that have")
    if as_json:
        print(json.dumps(found[node].as_dict()), flush=True)
        return
    for line in status_lines(found[node]):
        print(printable(line), flush=True)


def show(
    settings: "NatsSettings",
    document: _Document,
    revision: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="As it was at this revision.")
    ] = None,
) -> None:
    """Print a document, as it is or as it was."""
    texts = _ask(settings, lambda fleet: fleet.history(document))
    known = [each for each in texts if revision is None or each.revision <= revision]
    if not known:
        when = "" if revision is None else f" of revision {revision} or before"
        raise McrError(f"the store has no document {document}{when}")
    print(known[-1].text, end="", flush=True)


def history(
    settings: "NatsSettings",
    document: Annotated[
        str | None, typer.Argument(metavar="[DOCUMENT]", help="By default the last of each.")
    ] = None,
) -> None:
    """List the revisions of a document, up to 64, or the last revision of each document."""
    texts = _ask(
        settings, lambda fleet: fleet.documents() if document is None else fleet.history(document)
    )
    show_table(*history_rows(texts))


def plan(
    settings: "NatsSettings", directory: _Directory, prune: _Prune = False, as_json: _Json = False
) -> None:
    """Show what a directory would change, document by document; change nothing.

    A document with a mistake or a value that its node does not have is an error.
    """
    found = _ask(settings, lambda fleet: _plan(fleet, directory, prune))
    if as_json:
        print(json.dumps(found.as_dict()), flush=True)
    else:
        show_plan(found)


def apply(
    settings: "NatsSettings",
    directory: _Directory,
    canary: _Canary = None,
    batch: _Batch = 10,
    timeout: _Timeout = 30.0,
    absent: _Absent = None,
    prune: _Prune = False,
    yes: _Yes = False,
    as_json: _Json = False,
) -> None:
    """Write the documents of a directory, and wait for the nodes that follow them.

    Shows the change and asks first. Stops at the first node that refuses, and where a document was
    changed by another client meanwhile. Exit code 1: not all nodes have applied all documents.
    """
    _change(
        settings,
        lambda fleet: _plan(fleet, directory, prune),
        _Rollout(canary, batch, timeout, absent or ()),
        yes,
        as_json,
    )


def rollback(
    settings: "NatsSettings",
    revision: Annotated[
        int, typer.Argument(metavar="REVISION", min=0, help="Every later change is undone.")
    ],
    document: Annotated[
        list[str] | None,
        typer.Option(metavar="DOCUMENT", help="Only this document; may be repeated."),
    ] = None,
    canary: _Canary = None,
    batch: _Batch = 10,
    timeout: _Timeout = 30.0,
    absent: _Absent = None,
    yes: _Yes = False,
    as_json: _Json = False,
) -> None:
    """Make documents again what they were at a revision, as a new change.

    mcr fleet history lists the revisions. A document that did not exist then gets no rules.
    """
    _change(
        settings,
        lambda fleet: fleet.plan_rollback(revision, document or ()),
        _Rollout(canary, batch, timeout, absent or ()),
        yes,
        as_json,
    )


def top(settings: "NatsSettings") -> int:
    """Show all nodes on the whole screen, each second, until q.

    The revision that each should have and has, rules, rates, losses, alarms. Keys sort, filter, and
    open a node; ? lists them. Needs the extras fleet and top.
    """
    check_screen("mcr fleet top", "mcr fleet nodes")
    _run(settings, lambda fleet: fleet.nodes())  # what is wrong is a message, not a screen
    code: int = import_module("mcr.top.fleet_app").run(settings)
    return code


def events(settings: "NatsSettings") -> None:
    """Print what changes at the nodes: states, documents, losses, silence; until Ctrl-C."""
    lines_of = import_module("mcr.fleet.node_events").NodeEvents()

    async def follow(fleet: "Fleet") -> None:
        async for at, line in lines_of.follow(fleet):
            print(f"{moment(at)} {printable(line)}", flush=True)

    _run(settings, follow)


def permissions(
    inventory: Annotated[
        Path, typer.Argument(metavar="NODES.toml", help="The nodes and their labels.")
    ],
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Gets the seeds, and accounts.conf.")
    ],
) -> None:
    """Make a key for each node, and the accounts file that NATS servers include.

    A node may read its own documents and write its own status, nothing else. Keys that exist stay.
    The seeds are secret: give each host the one of its node, for mcr agent --creds. admin.seed is
    for mcr fleet --creds. accounts.conf has public keys only.
    """
    check_libraries()
    nodes = import_module("mcr.fleet.fleet_directory").read_inventory(inventory.read_bytes())
    write = import_module("mcr.fleet.permissions").write_permissions
    for name in write(directory, [each.identity for each in nodes]):
        print(directory / name, flush=True)


async def _plan(fleet: "Fleet", directory: Path, prune: bool) -> "FleetPlan":
    read = import_module("mcr.fleet.fleet_directory").read_fleet_directory
    return await fleet.plan(read(directory), prune=prune)


def _ask(settings: "NatsSettings", do: Callable[["Fleet"], Awaitable[T]]) -> T:
    """Do what prints nothing meanwhile."""
    with progress("waiting for the servers"):
        return _run(settings, do)


def _change(
    settings: "NatsSettings",
    planned: Callable[["Fleet"], Awaitable["FleetPlan"]],
    how: _Rollout,
    yes: bool,
    as_json: bool,
) -> None:
    if not (yes or sys.stdin.isatty()):
        raise typer.BadParameter(
            "is needed without a terminal to ask on; add it", param_hint="'--yes'"
        )
    found = _ask(settings, planned)
    if not as_json:
        show_plan(found)
    if not found.documents and not as_json:
        return
    if not yes and not typer.confirm("Apply?", err=True):
        return
    result = _run(
        settings, lambda fleet: fleet.apply(found, **how._asdict(), progress=show_progress)
    )
    if as_json:
        print(json.dumps(result.as_dict()), flush=True)
    else:
        show_result(result)
    if not result.is_complete:
        raise typer.Exit(1)


def _run(settings: "NatsSettings", do: Callable[["Fleet"], Awaitable[T]]) -> T:
    opened: Any = import_module("mcr.fleet.fleet").Fleet(settings)

    async def run() -> T:
        async with opened as fleet:
            return await do(fleet)

    return asyncio.run(run())


_ON = "--nats nats://ams1:4222"
for _name, _function, _examples in (
    ("create", create, (f"mcr fleet create {_ON}",)),
    ("nodes", nodes, (f"mcr fleet nodes {_ON}",)),
    ("status", status, (f"mcr fleet status ams1 {_ON}",)),
    ("show", show, (f"mcr fleet show nodes/ams1 {_ON}",)),
    ("history", history, (f"mcr fleet history nodes/ams1 {_ON}",)),
    ("plan", plan, (f"mcr fleet plan /srv/fleet {_ON}",)),
    ("apply", apply, (f"mcr fleet apply /srv/fleet --canary ams1 {_ON}",)),
    ("rollback", rollback, (f"mcr fleet rollback 41 --document nodes/ams1 {_ON}",)),
    ("events", events, (f"mcr fleet events {_ON}",)),
    ("top", top, (f"mcr fleet top {_ON}",)),
):
    add_command(app, _name, with_servers(_function), examples=_examples)
add_command(
    app,
    "permissions",
    permissions,
    examples=("mcr fleet permissions /srv/fleet/nodes.toml /etc/mcr/fleet",),
)
add_command(
    app,
    "tree",
    with_servers(tree, required=False),
    examples=(
        "mcr fleet tree tree.toml /srv/fleet",
        "mcr fleet tree tree.toml /srv/fleet --without fra1",
        f"mcr fleet tree tree.toml /srv/fleet --auto {_ON}",
    ),
)
