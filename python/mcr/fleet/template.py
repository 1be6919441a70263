"""Values of a node in the text of a document: ``{{ node.NAME }}``, and nothing else.

A document is a configuration, which has defaults and lists of its own, so there are neither loops
nor expressions here. ``{{`` occurs in no TOML and no JSON outside a string.
"""

import re
from collections.abc import Iterator, Mapping

from ..errors import ConfigError, Problem

_PLACE = re.compile(r"\{\{(?P<inner>.*?)\}\}|\{\{", re.DOTALL)
_VALUE = re.compile(r"\s*node\.(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NodeValue = str | int
"""Inserted as it is; a string without quotes, backslashes and control characters."""


def has_places(text: str) -> bool:
    """Whether a text has places for values."""
    return "{{" in text


def check_value(name: str, value: object) -> str | None:
    """Why a value of a node is refused; None if it is not."""
    if not _NAME.fullmatch(name):
        return "must be letters, digits and '_', and not begin with a digit"
    if isinstance(value, bool) or not isinstance(value, str | int):
        return "must be a string or an integer"
    if isinstance(value, str) and (not value.isprintable() or set(value) & set("\"'\\{}")):
        return "must not have quotes, backslashes, braces or control characters"
    return None


def render(file: str, text: str, node: str, values: Mapping[str, NodeValue]) -> str:
    """The text with the values of a node in their places.

    Args:
        file: the name of the file, for problems.
        text: the text of the document.
        node: the name of the node, for problems.
        values: what ``node.NAME`` may name.

    Raises:
        ConfigError: with a problem for each place that names no value.
    """
    problems = list(_problems(file, text, node, values))
    if problems:
        raise ConfigError(problems)
    return _PLACE.sub(lambda found: str(values[_name_in(found) or ""]), text)


def _problems(
    file: str, text: str, node: str, values: Mapping[str, NodeValue]
) -> Iterator[Problem]:
    for found in _PLACE.finditer(text):
        name = _name_in(found)
        if name in values:
            continue
        place = f"{file}:{text.count(chr(10), 0, found.start()) + 1}"
        if name is None:
            yield Problem((place,), f"{found[0][:60]!r} must be such as {{{{ node.iface_in }}}}")
        else:
            known = ", ".join(sorted(values))
            yield Problem((place,), f"node.{name} is not a value of {node}, which has {known}")


def _name_in(found: re.Match[str]) -> str | None:
    value = _VALUE.fullmatch(found["inner"] or "")
    return None if value is None else value["name"]
