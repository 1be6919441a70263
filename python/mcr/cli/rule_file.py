"""A file of rules for `mcr rule replace --file`, as what the protocol takes.

The daemon judges the rules; here only the file's form is read: TOML or, where it begins with a
brace, JSON, with an array ``rules``.
"""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from ..client.methods import NewRule
from ..protocol.constants import LINE_BYTES

_TOLD = {"id", "name", "object", "state", "outputs"}
"""What `mcr rule list --json` says of a rule beyond what makes it."""


def read_rules(file: str) -> list[NewRule]:
    """Read the rules of a file; ``-`` is standard input.

    Raises:
        ValueError: the file cannot be read or has another form; the text names the fix.
    """
    content = _content(file)
    if len(content) > LINE_BYTES:
        raise ValueError(f"{file} has more than the {LINE_BYTES} bytes that a daemon takes")
    try:
        parsed = _parsed(content)
    except RecursionError:
        raise ValueError(f"{file} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{file} is neither TOML nor JSON: {error}") from None
    rules = parsed.get("rules") if isinstance(parsed, dict) else None
    if not isinstance(rules, list):
        raise ValueError(f'{file} has no array of rules; write rules = ["A to B", "C to D"]')
    return [_item(f"{file} has in rule {number}", rule) for number, rule in enumerate(rules, 1)]


def _content(file: str) -> bytes:
    try:
        # One byte more, to tell a file that is too long; /dev/zero ends here too.
        if file == "-":
            return sys.stdin.buffer.read(LINE_BYTES + 1)
        with Path(file).open("rb") as stream:
            return stream.read(LINE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None


def _parsed(content: bytes) -> Any:  # noqa: ANN401 -- whatever the file holds
    text = content.decode()
    return json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)


def _item(place: str, rule: object) -> NewRule:
    if isinstance(rule, str):
        return rule
    if not isinstance(rule, dict):
        raise ValueError(f"{place} neither text nor a table")
    if "rule" in rule and "id" in rule:
        kept = {name: value for name, value in rule.items() if name not in _TOLD}
        return kept | {"rule": rule.get("object", rule["rule"])}
    return rule
