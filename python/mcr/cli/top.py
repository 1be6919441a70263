"""The command that shows a daemon on the whole screen."""

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated

import typer

from ..client import methods
from ..errors import McrError
from ..protocol.selection import StatsOrder
from .options import SocketOption
from .remote import connect
from .rule_output import known_rules
from .selection import OnlyProblems, SomeRules


def top(
    rules: SomeRules = None,
    sort: Annotated[
        StatsOrder | None,
        typer.Option(help="The order: the highest rate, most loss or latest datagram first."),
    ] = None,
    only_problems: OnlyProblems = False,
    socket: SocketOption = None,
) -> int:
    """Show rules, outputs, flows and drops on the whole screen, each second, until q.

    Keys sort and filter, and open a rule; ? lists them. It only reads: the socket for observers is
    enough. Needs the extra top.
    """
    check_screen("mcr top", "mcr stats --watch")
    chosen = known_rules(rules)
    with connect(socket) as client:  # what is wrong at the start is a message, not a screen
        if chosen is None:
            client.hello()
        else:
            client.request(methods.rules(chosen))
        path = client.path
    code: int = import_module("mcr.top.app").run(path, chosen, sort, only_problems)
    return code


def check_screen(command: str, otherwise: str) -> None:
    """Check that a command can use the whole screen.

    Args:
        command: the command.
        otherwise: the one that works without a terminal.

    Raises:
        McrError: the library is missing, or there is no terminal.
    """
    if find_spec("textual") is None:
        raise McrError(f"{command} needs textual; install it with pip install 'mcr-relay[top]'")
    # textual reads standard input and draws on standard error.
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or os.environ.get("TERM") == "dumb":
        raise McrError(f"{command} needs a terminal; {otherwise} works without one")
