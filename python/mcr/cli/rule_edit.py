"""The command `mcr rule edit`, which changes a rule of a daemon while it relays."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ..client import methods
from ..errors import Problem, RuleError
from .help import ExampleCommand
from .options import AnswerAsJson, DryRunOption, ExpectedRevision, SocketOption
from .remote import ask
from .rule_output import known_rules, show_change

if TYPE_CHECKING:
    from typer._click import Context

_SET_OUTPUT = "--set-output"


class EditCommand(ExampleCommand):
    """A command whose option `--set-output` takes two arguments."""

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:
        """Parse the arguments, with the two of each `--set-output` as one."""
        joined: list[str] = []
        for argument in args:
            is_options = joined[-2:-1] == [_SET_OUTPUT] and " " not in joined[-1]
            if is_options and not argument.startswith("-"):
                joined[-1] += f" {argument}"
            else:
                joined.append(argument)
        return super().parse_args(ctx, joined)


def edit(
    rule: Annotated[
        str,
        typer.Argument(metavar="RULE", help="The id, the name or the quoted text of a rule."),
    ],
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="OPTIONS",
            help="Its name or expectation, such as name=feed-b or expect=2s; default takes one"
            " away.",
        ),
    ] = None,
    set_output: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OUTPUT OPTIONS",
            help="Other options for an output, such as 2 ttl=16,dscp=46; default takes one back.",
        ),
    ] = None,
    add_output: Annotated[
        list[str] | None,
        typer.Option(metavar="OUTPUT", help="Add an output, after the others."),
    ] = None,
    remove_output: Annotated[
        list[str] | None, typer.Option(metavar="OUTPUT", help="Remove an output.")
    ] = None,
    dry_run: DryRunOption = False,
    expected_revision: ExpectedRevision = None,
    socket: SocketOption = None,
    as_json: AnswerAsJson = False,
) -> None:
    """Edit a rule while it relays: all of the changes are made, or none.

    The rule keeps its id and its counters, and so does each output that stays. An output is named
    by its number, from 1 as mcr stats lists them before the change, or by its address, interface
    and port. Its destination cannot change: remove the output, and add another.
    """
    if not (options or set_output or add_output or remove_output):
        raise RuleError(
            "the edit changes nothing; give --set, --set-output, --add-output or --remove-output"
        )
    with _named_as_given():
        call = methods.edit_rule(
            (known_rules([rule]) or [rule])[0],
            ",".join(options or []),
            set_outputs=dict(map(_pair, set_output or [])),
            add_outputs=add_output or [],
            remove_outputs=remove_output or [],
            expected_revision=expected_revision,
            dry_run=dry_run,
        )
        ask(socket, call, as_json, show_change)


@contextmanager
def _named_as_given() -> Iterator[None]:
    """Name what an edit does to outputs by the options of the command in its problems."""
    try:
        yield
    except RuleError as error:
        raise RuleError(map(_by_option, error.problems)) from None


def _by_option(problem: Problem) -> Problem:
    field = re.sub(r"^(set|add|remove)_output\b", r"--\1-output", problem.field)
    return Problem(field, problem.message)


def _pair(argument: str) -> tuple[str, str]:
    output, _, options = argument.partition(" ")
    if not options:
        raise typer.BadParameter(
            f"{output!r} needs options after it, such as ttl=16", param_hint=f"'{_SET_OUTPUT}'"
        )
    return output, options
