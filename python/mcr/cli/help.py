"""Help texts: commands in groups, and examples and rule options below each command's options.

All of it is plain text, alike on a terminal and in a pipe.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..rules.grammar import Noun, option_help
from .usage import usage_in

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

_COLUMN_CHARS = 28


class ExampleCommand(TyperCommand):
    """A command whose epilog keeps its lines, and whose name is in each error of its options."""

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:
        """Parse the arguments."""
        with usage_in(ctx):
            return super().parse_args(ctx, args)

    def format_epilog(self, _: typer.Context, formatter: "HelpFormatter") -> None:  # type: ignore[override]
        """Append the epilog as it is."""
        formatter.write(self.epilog or "")


class CommandGroup(TyperGroup):
    """A command with subcommands, which its help shows in their groups."""

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:
        """Parse the arguments before the subcommand."""
        with usage_in(ctx):
            return super().parse_args(ctx, args)

    def format_commands(self, _: typer.Context, formatter: "HelpFormatter") -> None:  # type: ignore[override]
        """Write a section for each group, in the order in which they first appear."""
        width = max(map(len, self.commands))
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            heading = getattr(command, "rich_help_panel", None) or "Commands"
            summary = (command.help or "").partition("\n")[0]
            sections.setdefault(heading, []).append((name.ljust(width), summary))
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)

    def format_epilog(self, _: typer.Context, formatter: "HelpFormatter") -> None:  # type: ignore[override]
        """Append the epilog as it is."""
        formatter.write(self.epilog or "")


def add_command(
    app: typer.Typer,
    name: str,
    function: Callable[..., Any],
    *,
    examples: Iterable[str],
    group: str | None = None,
    rules: Sequence[Noun] = (),
    command: type[ExampleCommand] = ExampleCommand,
) -> None:
    """Add a command to an application.

    Args:
        app: the application.
        name: the command's name.
        function: reads its options; the first line of its docstring is its summary.
        examples: command lines.
        group: the heading under which the application's help lists it.
        rules: the endpoints of rules that its arguments have; help shows their options.
        command: parses its arguments.
    """
    epilog = epilog_of(examples, rules)
    app.command(name, cls=command, rich_help_panel=group, epilog=epilog)(function)


def epilog_of(examples: Iterable[str], rules: Sequence[Noun] = ()) -> str:
    """The end of a command's help: rule options and examples."""
    lines = []
    for noun in rules:
        lines += ["", f"Options of an {noun}, each after a comma:"]
        lines += [f"  {text:{_COLUMN_CHARS}}{meaning}" for text, meaning in option_help(noun)]
    lines += ["", "Examples:", *(f"  {example}" for example in examples)]
    return "".join(f"{line}\n" for line in lines)
