"""The commands, configurations, programs and rules in all documents are understood.

What they do is tested where each document has a test of its own.
"""

import contextlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

import mcr
from mcr.cli import application
from mcr.cli.commands import COMMANDS
from mcr.config.document import FileContent
from mcr.config.reader import read_files

from .support.documents import DOCUMENTS, ROOT

PAGES = [path for path in DOCUMENTS if path.name not in ("CHANGELOG.md", "ARCHITECTURE.md")]
BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.M | re.S)


def blocks(path: Path, *languages: str) -> Iterator[str]:
    """The code blocks of some languages."""
    return (text for language, text in BLOCK.findall(path.read_text()) if language in languages)


# Of the host for which the document is.
HOST = re.compile(r" --(state|config) /(var|etc)/\S+")


def command_lines(path: Path) -> Iterator[list[str]]:
    """The words after `mcr` in what a page has its reader type, but for shell syntax behind it."""
    lines = [line for text in blocks(path, "sh") for line in joined(text)]
    lines += [
        line[2:]
        for text in blocks(path, "console")
        for line in joined(text)
        if line.startswith("$ ")
    ]
    for line in lines:
        line = HOST.sub("", line)  # noqa: PLW2901
        for command in re.findall(r"(?:^|[\s(\"/])mcr ([a-z].*?)(?:$|[)&|#>]| --$)", line):
            with contextlib.suppress(ValueError):  # a quotation that ends behind it
                yield shlex.split(command)


def joined(text: str) -> list[str]:
    """The lines of a block, with continued ones in one."""
    return text.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_command_is_understood(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its options exist, and their values are valid; nothing is run."""
    monkeypatch.setenv("MCR_NATS", "nats://127.0.0.1:1")
    for words in command_lines(path):
        assert words[0] in COMMANDS, words
        command: Any = typer.main.get_command(application(words[:1]))
        context = command.make_context("mcr", words)
        while isinstance(command, TyperGroup):
            rest = [*context._protected_args, *context.args]
            name, command, rest = command.resolve_command(context, rest)
            context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_program_and_configuration_is_valid(path: Path) -> None:
    """Programs are Python and use public names; tables of configurations are read."""
    for text in blocks(path, "python"):
        compile(text, str(path), "exec")
        names = re.findall(r"\bmcr\.([A-Z]\w*)", text)
        assert not [name for name in names if not hasattr(mcr, name)]
    for text in blocks(path, "toml"):
        if "{{" not in text and "rules" in tomllib.loads(text):
            assert read_files([FileContent("page.toml", text.encode())]).parsed is not None
