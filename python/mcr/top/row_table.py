"""A table on the screen that makes text only of the rows that are visible."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from ..protocol.text import printable
from .tables import Column, TableContent

_GAP = 1


class RowTable(Widget, can_focus=True):
    """The headings and those rows of a table that fit, with a cursor.

    The cursor stays with its row when the order changes; at the top it stays there.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "one row up", show=False),
        Binding("down,j", "move(1)", "one row down", show=False),
        Binding("pageup", "page(-1)", "one page up", show=False),
        Binding("pagedown,space", "page(1)", "one page down", show=False),
        Binding("home,g", "move(-1000000000)", "the first row", show=False),
        Binding("end,G", "move(1000000000)", "the last row", show=False),
        Binding("enter", "open", "open"),
    ]

    class Opened(Message):
        """A row was chosen that opens something."""

        def __init__(self, target: str) -> None:
            """The id of what it opens."""
            super().__init__()
            self.target = target

    class Scrolled(Message):
        """Other rows are visible."""

    def __init__(self, content: TableContent[Any]) -> None:
        """Show a table."""
        super().__init__()
        self._content = content
        self._cursor = 0
        self._first = 0
        self._key = ""

    @property
    def page_rows(self) -> int:
        """How many rows fit."""
        return max(1, self.size.height - 1)

    @property
    def place(self) -> str:
        """Which rows are visible, as text."""
        total = len(self._content.rows)
        last = min(total, self._first + self.page_rows)
        return f"{self._first + 1}-{last} of {total}" if total else "none"

    def visible_targets(self) -> list[str]:
        """The ids of what the visible rows open."""
        found = (self._content.opens(row) for row in self._visible())
        return list(dict.fromkeys(each for each in found if each))

    def show(self, content: TableContent[Any]) -> None:
        """Show another reading of the table, or another table."""
        self._content = content
        rows = content.rows
        is_same = self._cursor < len(rows) and content.key(rows[self._cursor]) == self._key
        if self._cursor and not is_same:
            keys = (n for n, row in enumerate(rows) if content.key(row) == self._key)
            moved = next(keys, self._cursor) - self._cursor
            self._first += moved
            self._cursor += moved
        self._move(0)

    def action_move(self, rows: int) -> None:
        """Move the cursor by rows."""
        self._move(rows)
        self.post_message(self.Scrolled())

    def _move(self, rows: int) -> None:
        content, last = self._content, max(0, len(self._content.rows) - 1)
        self._cursor = min(max(0, self._cursor + rows), last)
        self._key = content.key(content.rows[self._cursor]) if content.rows else ""
        lowest = max(0, min(self._cursor, last + 1 - self.page_rows))
        self._first = min(max(0, self._first, self._cursor + 1 - self.page_rows), lowest)
        self.refresh()

    def action_page(self, pages: int) -> None:
        """Move the cursor and what is visible by pages."""
        rows = pages * self.page_rows
        self._first = max(0, self._first + rows)
        self.action_move(rows)

    def action_open(self) -> None:
        """Open what the row under the cursor is about."""
        if self._content.rows:
            target = self._content.opens(self._content.rows[self._cursor])
            if target:
                self.post_message(self.Opened(target))

    def on_resize(self) -> None:
        """Keep the cursor visible."""
        self.action_move(0)

    def render_line(self, y: int) -> Strip:
        """The headings, or one row."""
        width, content = self.size.width, self._content
        number = self._first + y - 1
        if y == 0:
            headings = [column.heading for column in content.columns]
            return _strip(self._line(headings), width, Style(bold=True))
        if not content.rows and y == 1:
            return _strip(content.empty, width, Style())
        if number >= len(content.rows):
            return Strip.blank(width, Style())
        row = content.rows[number]
        style = Style.parse(content.style(row))
        if number == self._cursor and self.has_focus:
            style += Style(reverse=True)
        return _strip(self._line(content.cells(row, self._widths())), width, style)

    def _visible(self) -> Iterator[Any]:
        yield from self._content.rows[self._first : self._first + self.page_rows]

    def _widths(self) -> list[int]:
        columns = self._content.columns
        left = self.size.width - sum(each.width + _GAP for each in columns) + _GAP
        shares = sum(each.share for each in columns) or 1
        return [each.width + max(0, left) * each.share // shares for each in columns]

    def _line(self, cells: Sequence[str]) -> str:
        parts = zip(self._content.columns, cells, self._widths(), strict=True)
        return (" " * _GAP).join(_fit(column, printable(cell), n) for column, cell, n in parts)


def _fit(column: Column, text: str, width: int) -> str:
    """A text in a column: what does not fit ends with an ellipsis."""
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…"
    spaces = " " * (width - length)
    return spaces + text if column.is_number else text + spaces


def _strip(text: str, width: int, style: Style) -> Strip:
    return Strip([Segment(text, style)]).adjust_cell_length(width, style)
