"""Wrong usage: which option is to blame, and the sentence that says so."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from typer.models import ParameterInfo

from ..similar_names import suggestion

if TYPE_CHECKING:
    from typer._click import Context


@contextmanager
def usage_of(option: str) -> Iterator[None]:
    """Turn a ValueError of the block into a usage error that names the option."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=repr(option)) from None


@contextmanager
def usage_in(context: "Context") -> Iterator[None]:
    """Name the command in the errors of the block; the parser of its options does not."""
    try:
        yield
    except typer.TyperException as error:
        if getattr(error, "ctx", context) is None:
            error.ctx = context  # type: ignore[attr-defined]
        raise


def usage_sentence(error: typer.TyperException) -> str:
    """The error of the command line's parser, with the help that explains the command."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "mcr"
    if isinstance(error, typer.BadParameter):
        error.message = _refusal(error)
    text = error.format_message().rstrip(".")
    text = _with_value(text, context) + _suggestion(text)
    return f"{text}{'' if text.endswith('?') else ';'} see {command} --help"


def _refusal(error: typer.BadParameter) -> str:
    """Why a value is refused: in the words of rules, where pydantic has words of its own."""
    cause: Any = error.__cause__
    if error.param is None or not hasattr(cause, "errors"):
        return error.message
    refused = cause.errors()[0]
    value, kind = refused["input"], refused["type"]
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"{value} is out of range: {_range(error.param.type_descriptor.parameter_info)}"
    if kind.startswith("int_"):
        return f"{value!r} is not a whole number"
    if kind.startswith("float_"):
        return f"{value!r} is not a number"
    return error.message.removeprefix("Value error, ")


def _range(limits: ParameterInfo) -> str:
    return f"at least {limits.min}" if limits.max is None else f"{limits.min} to {limits.max}"


def _with_value(text: str, context: "Context | None") -> str:
    """The text with what an option without its value needs, as help shows it."""
    found = re.fullmatch("Option '(.*)' requires an argument", text)
    if found is None or context is None:
        return text
    option: Any = next(each for each in context.command.params if found[1] in each.opts)
    shown, _ = option.get_help_record(context)
    return f"Option '{found[1]}' needs {re.sub('^(-[^ ]+ )+', '', shown)} after it"


def _suggestion(text: str) -> str:
    """The most similar choice, where the text lists all of them behind an invalid one."""
    found = re.search("'([^']{1,40})' is not one of ((?:'[^']*'(?:, )?)+)$", text)
    if found is None:
        return ""
    return suggestion(found[1], re.findall("'([^']*)'", found[2]), before="; ")
