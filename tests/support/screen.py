"""A terminal's screen: what stays of text, line feeds and the cursor movements of live views."""

import re
import unicodedata

_TOKEN = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|(\r|\n|\x08)|([^\x1b\r\n\x08])")


class Screen:
    """Lines of characters, with a cursor; it never scrolls."""

    def __init__(self, columns: int) -> None:
        """An empty one of this width."""
        self._columns = columns
        self._lines: list[list[str]] = [[]]
        self._row = self._column = 0

    @property
    def lines(self) -> list[str]:
        """The text of each line, without spaces at its end."""
        return ["".join(line).rstrip() for line in self._lines]

    def write(self, text: str) -> None:
        """Show what a program has written."""
        for match in _TOKEN.finditer(text):
            arguments, command, control, character = match.groups()
            if command:
                self._command(arguments, command)
            elif control == "\r":
                self._column = 0
            elif control == "\n":
                self._move(1)
            elif character and not unicodedata.category(character).startswith("C"):
                self._put(character)

    def _command(self, arguments: str, command: str) -> None:
        count = int(arguments) if arguments.isdigit() else 1
        if command == "A":
            self._row = max(0, self._row - count)
        elif command == "B":
            self._move(count)
        elif command == "K":  # all uses clear the whole line
            self._lines[self._row].clear()

    def _move(self, rows: int) -> None:
        self._row += rows
        self._lines += [[] for _ in range(self._row + 1 - len(self._lines))]

    def _put(self, character: str) -> None:
        if self._column == self._columns:
            self._move(1)
            self._column = 0
        line = self._lines[self._row]
        line += " " * (self._column + 1 - len(line))
        line[self._column] = character
        self._column += 1
