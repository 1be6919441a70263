"""Files of rules: a configuration, or the output of `mcr rule list --json`."""

import sys
from pathlib import Path

from ..client.methods import NewRule
from ..config.forms import wanted_forms
from ..protocol.constants import LINE_BYTES
from ..rules.file_format import parse_file
from .config_file import parse_configuration

_DERIVED = {
    *("id", "name", "object", "state", "state_code", "facts", "outputs"),
    *("alarms", "offload", "offload_reason", "offload_detail", "origin"),
}
"""Members of a rule in `mcr rule list --json` that do not define it."""


def read_rules(file: str) -> list[NewRule]:
    """Read the rules of a file; ``-`` is standard input.

    Raises:
        ValueError: the file cannot be read or has another form; the text says which.
    """
    content = _content(file)
    if len(content) > LINE_BYTES:
        raise ValueError(f"{file} is larger than the {LINE_BYTES} bytes that a daemon accepts")
    try:
        parsed = parse_file(content)
    except ValueError as error:
        raise ValueError(f"{file} {error}") from None
    rules = parsed.get("rules") if isinstance(parsed, dict) else None
    if not isinstance(rules, list):
        raise ValueError(f'{file} has no array of rules; write rules = ["A to B", "C to D"]')
    if any(isinstance(rule, dict) and "id" in rule for rule in rules):
        return [_item(f"{file}: rule {number}", rule) for number, rule in enumerate(rules, 1)]
    return [*wanted_forms(parse_configuration(file, content))]


def _content(file: str) -> bytes:
    try:
        # One byte more shows that a file is too large, even /dev/zero.
        if file == "-":
            return sys.stdin.buffer.read(LINE_BYTES + 1)
        with Path(file).open("rb") as stream:
            return stream.read(LINE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None


def _item(place: str, rule: object) -> NewRule:
    if isinstance(rule, str):
        return rule
    if not isinstance(rule, dict):
        raise ValueError(f"{place} is neither a string nor a table")
    if "rule" in rule and "id" in rule:
        kept = {name: value for name, value in rule.items() if name not in _DERIVED}
        return kept | {"rule": rule.get("object", rule["rule"])}
    return rule
