"""JSON5 (json5.org) as JSON values: also comments, trailing commas, bare keys and single quotes."""

import json
import re
from typing import Any

_TOKEN = re.compile(
    r"\s+|//[^\n]*|/\*.*?\*/"
    r"|(?P<text>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')"
    r"|(?P<word>[A-Za-z_$][\w$]*)"
    r"|(?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))"
    r"|(?P<sign>[{}\[\]:,])",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(\r?\n)|(.))", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}
_WORDS = {"true", "false", "null"}


def parse_json5(text: str) -> Any:  # noqa: ANN401 -- any value
    """The value of a text.

    Raises:
        ValueError: it is none.
    """
    pieces, at = list[str](), 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            line = text.count("\n", 0, at) + 1
            raise ValueError(f"is not JSON5 at line {line}: {text[at : at + 20]!r}")
        at = token.end()
        if token.lastgroup is not None:
            _append(pieces, token.lastgroup, token[0])
    try:
        return json.loads("".join(pieces))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON5: {error}") from None


def _append(pieces: list[str], kind: str, token: str) -> None:
    """Add a token as JSON has it."""
    if token in {"}", "]"} and pieces and pieces[-1] == ",":
        pieces.pop()
    if kind == "text":
        token = json.dumps(_ESCAPE.sub(_unescaped, token[1:-1]))
    elif kind == "word" and token not in _WORDS:
        token = json.dumps(token)
    elif kind == "number":
        number = token.lstrip("+")
        token = str(int(number, 16)) if "x" in number.lower() else json.dumps(_number(number))
    pieces.append(token)


def _number(text: str) -> int | float:
    return float(text) if set(text) & set(".eE") else int(text)


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2]
    if code:
        return chr(int(code, 16))
    return "" if escape[3] else _ESCAPES.get(escape[4], escape[4])
