"""What the command line accepts, as help shows it, for manual pages and completion."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args, get_origin

import typer.main
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption


class OptionText(NamedTuple):
    """An option of a command."""

    names: tuple[str, ...]
    shown: str
    """The names with the value, as in help."""
    text: str
    takes_value: bool
    choices: tuple[str, ...]


class CommandText(NamedTuple):
    """A command or a group of commands."""

    words: tuple[str, ...]
    """After `mcr`; none for `mcr` itself."""
    usage: str
    text: str
    """Paragraphs, the first of which is the summary."""
    arguments: tuple[tuple[str, str], ...]
    options: tuple[OptionText, ...]
    subcommands: tuple[str, ...]
    end: str
    """Options of rules, and examples."""

    @property
    def summary(self) -> str:
        """The first line of the text."""
        return self.text.partition("\n")[0]

    @property
    def takes_rules(self) -> bool:
        """Whether its arguments are rules of the daemon, by id or name."""
        return any(
            shown.startswith("RULE") and " id," in f" {text}" for shown, text in self.arguments
        )


def command_texts(app: typer.Typer) -> list[CommandText]:
    """All commands of an application, each group before its commands."""
    return list(_texts(typer.main.get_command(app), (), None))


def _texts(
    command: Any,  # noqa: ANN401 -- a command or a group of Typer
    words: tuple[str, ...],
    parent: Any,  # noqa: ANN401 -- Typer's context
) -> Iterator[CommandText]:
    context = command.context_class(command, info_name=words[-1] if words else "mcr", parent=parent)
    pieces = command.collect_usage_pieces(context)
    yield CommandText(
        words,
        " ".join(("mcr", *words, *pieces)),
        (command.help or "").strip(),
        tuple(_argument(each, context) for each in command.params if _is_argument(each)),
        tuple(_option(each, context) for each in command.params if isinstance(each, TyperOption)),
        tuple(command.commands) if isinstance(command, TyperGroup) else (),
        command.epilog or "",
    )
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            assert isinstance(each, TyperCommand | TyperGroup)
            yield from _texts(each, (*words, name), context)


def _is_argument(parameter: object) -> bool:
    return isinstance(parameter, TyperArgument)


def _argument(parameter: Any, context: Any) -> tuple[str, str]:  # noqa: ANN401 -- of Typer
    shown, text = parameter.get_help_record(context) or (parameter.name, "")
    return shown, text


def _option(option: TyperOption, context: Any) -> OptionText:  # noqa: ANN401 -- of Typer
    shown, text = option.get_help_record(context) or (", ".join(option.opts), "")
    names = (*option.opts, *option.secondary_opts)
    takes_value = not (option.is_flag or option.count)
    return OptionText(names, shown, text, takes_value, tuple(_choices(option)))


def _choices(option: TyperOption) -> Iterator[str]:
    """The words that an option accepts, if they are few."""
    annotation = option.type_descriptor.annotation
    for each in (annotation, *get_args(annotation)):
        if get_origin(each) is Literal:
            yield from get_args(each)
