"""One file of a configuration: its value, and problems with their place in it."""

from collections.abc import Iterable
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from ..errors import ConfigError, FieldPath, Problem
from ..rules.file_format import FormatError, is_json, parse_file
from .expansion import Values, row_words
from .lines import KeyPath, lines_of

_NOUNS = {"rules": "rule", "outputs": "output"}
"""Elements of these arrays are counted from 1 in problems, as everywhere in mcr."""

_NO_VALUES: Values = MappingProxyType({})


class FileContent(NamedTuple):
    """A file that was read, not yet parsed."""

    name: str
    """Shown in problems; a path."""
    content: bytes


class Document:
    """A parsed file."""

    def __init__(self, file: FileContent) -> None:
        """Parse the file.

        Raises:
            ConfigError: it is neither TOML nor JSON, or no table.
        """
        self.name = file.name
        self._content = file.content
        try:
            value = parse_file(file.content)
        except FormatError as error:
            raise ConfigError([Problem((f"{self.name}:{error.line}",), str(error))]) from None
        self.value: dict[str, Any] = value

    def problem(
        self,
        path: KeyPath,
        message: str,
        *,
        within: FieldPath = (),
        label: str | None = None,
        values: Values = _NO_VALUES,
    ) -> Problem:
        """A problem at a key.

        Args:
            path: the key.
            message: the problem's sentence.
            within: the field of the rule at that key.
            label: the name of the rule.
            values: those of its names in `for`.
        """
        line = self._line_of(path, within)
        words = _words_of(path)
        if len(words) > 1 and (label is not None or values):
            name = "" if label is None else f" ({label})"
            words[1] = f"{words[1]}{name}{row_words(values)}"
            words = [f"{words[0]} {words[1]}", *words[2:]]
        return Problem((f"{self.name}:{line}", *words, *within), message)

    @cached_property
    def _lines(self) -> dict[KeyPath, int]:
        text = self._content.decode()
        return dict(lines_of(text, is_json=is_json(text)))

    def _line_of(self, path: KeyPath, within: FieldPath) -> int:
        found, text = (*path, *_keys_of(within)), (*path, "rule")
        while found not in self._lines:
            found = found[:-1]
        in_text = found == path and within and text in self._lines
        return self._lines[text if in_text else found]


def _words_of(path: KeyPath) -> list[str | int]:
    words: list[str | int] = []
    for part in path:
        if isinstance(part, str):
            words.append(part)
        else:
            noun = str(words[-1]) if words else "item"
            words[-1:] = [_NOUNS.get(noun, noun), part + 1]
    return words


def _keys_of(field: FieldPath) -> KeyPath:
    """The keys of a rule's field in a table, such as `outputs`, 0, `ttl`."""
    keys: list[str | int] = []
    for part in field:
        if isinstance(part, int):
            keys[-1:] = [f"{keys[-1]}s", part - 1]
        else:
            keys.append(part)
    return tuple(keys)


def read_documents(files: Iterable[FileContent]) -> tuple[list[Document], list[Problem]]:
    """Parse files; those that cannot be parsed are among the problems."""
    documents, problems = list[Document](), list[Problem]()
    for file in files:
        try:
            documents.append(Document(file))
        except ConfigError as error:
            problems += error.problems
    return documents, problems
