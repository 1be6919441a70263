"""Configurations as TOML, which `reader` reads back to the same settings and rules."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..rules import Rule
from ..rules.objects import text_or_object
from ..rules.shaping import NO_SHAPING, Shaping, shaping_object


class WrittenRule(NamedTuple):
    """A rule to write."""

    rule: Rule
    enabled: bool = True
    comments: Sequence[str] = ()
    """Sentences before it."""


def write_toml(
    settings: Mapping[str, Any],
    rules: Iterable[WrittenRule],
    comments: Iterable[str] = (),
    shaping: Shaping | None = None,
) -> str:
    """The text of a configuration file.

    Args:
        settings: the table `daemon`.
        rules: in their order.
        comments: sentences at the top of the file.
        shaping: the tables `classes` and `interfaces`; None for none.
    """
    lines = [*_lines(settings, rules, comments)]
    for table, members in shaping_object(shaping or NO_SHAPING).items():
        for name, values in members.items():
            lines += ["", f"[{table}.{_value(name)}]"]
            lines += (f"{key} = {_value(each)}" for key, each in values.items())
    return "".join(f"{line}\n" for line in lines)


def _lines(
    settings: Mapping[str, Any], rules: Iterable[WrittenRule], comments: Iterable[str]
) -> Iterator[str]:
    yield from map(_comment, comments)
    for name, value in settings.items():
        yield f"daemon.{name} = {_value(value)}"
    yield "rules = ["
    for written in rules:
        yield from (f"  {_comment(each)}" for each in written.comments)
        yield f"  {_value(_element(written))},"
    yield "]"


def _element(written: WrittenRule) -> object:
    rule = text_or_object(written.rule)
    return rule if written.enabled else {"rule": rule, "enabled": False}


def _comment(text: str) -> str:
    """A comment, in which TOML permits no control character but the tab."""
    return f"# {''.join(each if each.isprintable() else ' ' for each in text)}".rstrip()


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_value(each)}' for key, each in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    # Strings, numbers and switches have the same form in JSON, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
