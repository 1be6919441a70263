"""The commands `mcr class ...` and `mcr interface ...`: classes of traffic, and what they share."""

from typing import Annotated, Any

import typer

from ..client import shaping_methods
from ..protocol.results import ShapingInfo
from .help import CommandGroup, add_command, epilog_of
from .options import AnswerAsJson, DryRunOption, ExpectedRevision, SocketOption
from .output import show_table
from .remote import ask
from .rule_output import show_warnings

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=False,
    help="List, set or remove classes of traffic.\n\nA rule is in one by class=NAME. Where the rate"
    " of an interface is exceeded, lower classes are dropped first.",
    epilog=epilog_of(["mcr class list"]),
)
interface_app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=False,
    help="Bound what all outputs on an interface send together.",
    epilog=epilog_of(["mcr interface rate eth1 100mbit"]),
)

_Name = Annotated[str, typer.Argument(metavar="CLASS", help="The name of the class.")]


def list_(socket: SocketOption = None, as_json: AnswerAsJson = False) -> None:
    """List the classes, the highest priority first, and the rates of interfaces."""
    ask(socket, shaping_methods.shaping(), as_json, _show)


def set_(
    name: _Name,
    priority: Annotated[
        int | None,
        typer.Option(help="0 to 7; a higher one is served first. 3 in a new class."),
    ] = None,
    weight: Annotated[
        int | None,
        typer.Option(help="1 to 1000: its share among classes of its priority. 1 in a new one."),
    ] = None,
    dry_run: DryRunOption = False,
    expected_revision: ExpectedRevision = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Define a class, or change one; what is not given stays."""
    given = {"priority": priority, "weight": weight}
    members = {key: value for key, value in given.items() if value is not None}
    call = shaping_methods.change_shaping(
        classes={name: members}, expected_revision=expected_revision, dry_run=dry_run
    )
    ask(socket, call, as_json, _show)


def remove(
    name: _Name,
    dry_run: DryRunOption = False,
    expected_revision: ExpectedRevision = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Remove a class that no rule is in; the class default gets its usual values."""
    call = shaping_methods.change_shaping(
        classes={name: None}, expected_revision=expected_revision, dry_run=dry_run
    )
    ask(socket, call, as_json, _show)


def rate(
    interface: Annotated[str, typer.Argument(metavar="IFACE", help="The name of the interface.")],
    rate: Annotated[
        str,
        typer.Argument(metavar="RATE", help="Such as 100mbit or 20kpps; none takes it away."),
    ],
    burst: Annotated[
        int | None, typer.Option(help="Bytes or datagrams that a class sends at once.")
    ] = None,
    dry_run: DryRunOption = False,
    expected_revision: ExpectedRevision = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Set the most that all outputs on an interface send together; classes share it."""
    members: dict[str, Any] = {"rate": rate} if burst is None else {"rate": rate, "burst": burst}
    call = shaping_methods.change_shaping(
        interfaces={interface: None if rate == "none" else members},
        expected_revision=expected_revision,
        dry_run=dry_run,
    )
    ask(socket, call, as_json, _show)


def _show(info: ShapingInfo) -> None:
    show_warnings(info.warnings)
    show_table(
        ("class", "priority", "weight", "rules"),
        [(one.name, str(one.priority), str(one.weight), str(one.rules)) for one in info.classes],
    )
    for each in info.interfaces:
        burst = "" if each.burst is None else f", burst {each.burst}"
        print(f"{each.interface}: {each.rate}{burst}")
    print(f"revision {info.revision}", flush=True)


for _name, _function, _example in (
    ("list", list_, "mcr class list"),
    ("set", set_, "mcr class set live --priority 7"),
    ("remove", remove, "mcr class remove live"),
):
    add_command(app, _name, _function, examples=(_example,))
add_command(interface_app, "rate", rate, examples=("mcr interface rate eth1 100mbit",))
