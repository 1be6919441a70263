"""The command `mcr man`: manual pages (man(7)), made of the help of each command."""

import re
import textwrap
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from .command_tree import CommandText, command_texts

_OPTION_COLUMNS = 26


def man(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="Print the page of this command, as rule edit."),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write all pages to a directory."),
    ] = None,
) -> None:
    """Print the manual page of a command, or write those of all commands.

    The pages say what the help of each command says.
    """
    from . import application  # noqa: PLC0415 -- it loads this module

    if command and directory is not None:
        raise typer.BadParameter("excludes a command", param_hint="'--directory'")
    pages = {each.words: each for each in command_texts(application())}
    if directory is not None:
        for words, each in pages.items():
            (directory / f"{'-'.join(('mcr', *words))}.1").write_text(_page(each, pages))
        return
    wanted = tuple(command or ())
    if wanted not in pages:
        raise typer.BadParameter(f"there is none named {' '.join(wanted)!r}", param_hint="COMMAND")
    print(_page(pages[wanted], pages), end="")


def _page(own: CommandText, pages: dict[tuple[str, ...], CommandText]) -> str:
    name = "-".join(("mcr", *own.words))
    return "\n".join(_lines(own, name, pages)) + "\n"


def _lines(own: CommandText, name: str, pages: dict[tuple[str, ...], CommandText]) -> Iterator[str]:
    yield f'.TH {name.upper()} 1 "" "mcr {version("mcr-relay")}" "User Commands"'
    yield from (".SH NAME", f"{_escaped(name)} \\- {_escaped(own.summary.rstrip('.'))}")
    yield from (".SH SYNOPSIS", f".B {_escaped(own.usage)}")
    yield from (".SH DESCRIPTION", *_paragraphs(own.text))
    if own.arguments:
        yield ".SH ARGUMENTS"
        for shown, text in own.arguments:
            yield from (".TP", f".I {_escaped(shown)}", _escaped(text))
    if own.options:
        yield ".SH OPTIONS"
        for option in own.options:
            yield from (".TP", f".B {_escaped(option.shown)}", _escaped(option.text))
    if own.subcommands:
        yield ".SH COMMANDS"
        for each in own.subcommands:
            page = pages[(*own.words, each)]
            yield from (".TP", f".BR {_escaped(f'{name}-{each}')} (1)", _escaped(page.summary))
    for heading, lines in _sections(own.end):
        yield from (f".SH {heading}", ".nf", *map(_escaped, lines), ".fi")
    if own.words:
        parent = "-".join(("mcr", *own.words[:-1]))
        yield from (".SH SEE ALSO", f".BR {_escaped(parent)} (1)")


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        yield _escaped(" ".join(paragraph.split()))


def _sections(end: str) -> Iterator[tuple[str, list[str]]]:
    """The headings at the end of a help text, each with its lines."""
    for heading, body in re.findall(r"^(\S.*):\n((?:  .*\n)+)", end, re.MULTILINE):
        yield heading.upper(), textwrap.dedent(body).splitlines()


def _escaped(text: str) -> str:
    """Text as man(7) prints it: no line of it is a request, and no character is another."""
    text = text.replace("\\", "\\(rs").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text)
