"""Arguments and options that choose which of many rules a command shows."""

from typing import Annotated

import typer

SomeRules = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RULE",
        help="Only these rules, by id, name or text, or by a quoted pattern for these, as 'A0*'.",
    ),
]
OnlyProblems = Annotated[
    bool,
    typer.Option(
        "--only-problems",
        help="Only rules that receive nothing now, or not what they should, or lose copies.",
    ),
]
NoPager = Annotated[
    bool, typer.Option("--no-pager", help="Never show the output in a pager ($PAGER, or less).")
]
