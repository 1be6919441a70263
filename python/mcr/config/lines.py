"""The line of each key of a TOML or JSON text, which the parsers of the library do not tell.

Reads only texts that these parsers have accepted, and only to say where a mistake is.
"""

import json
import re
from collections.abc import Mapping

KeyPath = tuple[str | int, ...]
"""The way to a value: keys, and positions in arrays, from 0."""

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_TEXT = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[^,\]}#\n]+")


class _Unreadable(Exception):
    """The text is none that a parser has accepted."""


class _Scanner:
    """Goes through a text once, and notes where each value begins."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {(): 1}
        self._text = text
        self._at = 0
        self._counted = 0
        self._line = 1
        self._arrays: dict[KeyPath, int] = {}

    def read_toml(self) -> None:
        table: KeyPath = ()
        while self._skip():
            if self._takes("[["):
                table = self._header(is_array=True)
            elif self._takes("["):
                table = self._header(is_array=False)
            else:
                self._pair(table)

    def read_json(self) -> None:
        self._skip()
        self.value(())

    def value(self, path: KeyPath) -> None:
        self.lines.setdefault(path, self._current_line())
        if self._takes("["):
            position = 0
            while self._skip() and not self._takes("]"):
                self.value((*path, position))
                position += 1
                self._skip()
                self._takes(",")
        elif self._takes("{"):
            while self._skip() and not self._takes("}"):
                self._pair(path)
                self._skip()
                self._takes(",")
        elif not self._match(_TEXT) and not self._match(_BARE):
            raise _Unreadable

    def _pair(self, table: KeyPath) -> None:
        line = self._current_line()
        path = self._under(table, self._keys())
        self._skip()
        if not self._takes("=") and not self._takes(":"):
            raise _Unreadable
        self._skip()
        self.lines.setdefault(path, line)
        self.value(path)

    def _header(self, *, is_array: bool) -> KeyPath:
        line, keys = self._current_line(), self._keys()
        self._match(_BLANK)
        if not self._takes("]]" if is_array else "]"):
            raise _Unreadable
        path = self._under((), keys[:-1] if is_array else keys)
        if is_array:
            path = (*path, keys[-1])
            self.lines.setdefault(path, line)
            self._arrays[path] = self._arrays.get(path, -1) + 1
            path = (*path, self._arrays[path])
        self.lines.setdefault(path, line)
        return path

    def _under(self, path: KeyPath, keys: list[str]) -> KeyPath:
        """The path of keys below a table; an array of tables stands for its last one."""
        for key in keys:
            path = (*path, key)
            if path in self._arrays:
                path = (*path, self._arrays[path])
        return path

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._match(_BLANK)
            found = self._match(_KEY)
            if not found:
                raise _Unreadable
            keys.append(_unquoted(found))
            self._match(_BLANK)
            if not self._takes("."):
                return keys

    def _skip(self) -> bool:
        """Skip blanks, line ends and comments; return whether anything follows."""
        self._match(_SPACE)
        return self._at < len(self._text)

    def _takes(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += len(sign)
        return True

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found[0]

    def _current_line(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line


def _unquoted(key: str) -> str:
    if key.startswith("'"):
        return key[1:-1]
    if not key.startswith('"'):
        return key
    try:
        return str(json.loads(key))
    except ValueError:  # an escape that only TOML has
        return key[1:-1]


def lines_of(text: str, *, is_json: bool) -> Mapping[KeyPath, int]:
    """The line of each value, counted from 1, by its path."""
    scanner = _Scanner(text)
    try:
        if is_json:
            scanner.read_json()
        else:
            scanner.read_toml()
    except (_Unreadable, RecursionError):
        pass  # the lines found so far; a path without one has that of what contains it
    return scanner.lines
