"""What the screens with a table of everything have in common: a head, and a line for a filter."""

from abc import abstractmethod

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input, Static

from .reading_screen import ReadingScreen
from .row_table import RowTable

TABLE_KEYS: list[BindingType] = [
    Binding("s", "sort", "sort"),
    Binding("slash", "filter", "filter", key_display="/"),
    Binding("p", "problems", "problems"),
    Binding("escape", "clear", "without filter", show=False),
]
"""The keys of such a screen, behind its own: the help lists them in this order."""


class TableScreen(ReadingScreen):
    """A head, a table, and the text that filters its rows. A subclass makes the widgets."""

    _title: Static
    _table: RowTable
    _filter: Input

    def compose(self) -> ComposeResult:
        """Head, table, and the line of the filter."""
        yield self.head
        yield self._title
        yield self._table
        yield self._filter
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin with the table."""
        self._table.focus()
        self.show_reading()

    def action_filter(self) -> None:
        """Ask for a text."""
        self._filter.display = True
        self._filter.focus()

    def action_clear(self) -> None:
        """Filter no longer."""
        self._filter.value = ""
        self._end_filter()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while the text is typed."""
        self._filter_by(event.value)
        self._show_table()

    def on_input_submitted(self) -> None:
        """Keep the filter."""
        self._end_filter()

    def on_row_table_scrolled(self) -> None:
        """Say which rows are visible."""
        self._show_title()

    def _end_filter(self) -> None:
        self._filter.display = False
        self._table.focus()

    @abstractmethod
    def _filter_by(self, text: str) -> None:
        """Show only rows with a text from now on."""

    @abstractmethod
    def _show_table(self) -> None:
        """Show the rows that are chosen, and what they are."""

    @abstractmethod
    def _show_title(self) -> None:
        """Say what the table shows."""
