"""The screen with the table of all nodes of a fleet."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input, Static

from .fleet_head import fleet_head
from .fleet_reader import FleetReader
from .node_table import NODE_ORDERS, NodeOrder, arranged_nodes, nodes_table
from .reading_screen import ReadingScreen
from .row_table import RowTable


class NodesScreen(ReadingScreen):
    """All nodes, or those that a filter leaves."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort", "sort"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("p", "problems", "problems"),
        Binding("escape", "clear", "without filter", show=False),
    ]

    def __init__(self, reader: FleetReader) -> None:
        """Show what a reader reads."""
        super().__init__()
        self._reader = reader
        self._order: NodeOrder = NODE_ORDERS[0]
        self._only_problems = False
        self._text = ""
        self._title = Static(id="view")
        self._table = RowTable(nodes_table([], "no nodes"))
        self._filter = Input(placeholder="a name, label, state or problem", id="filter")

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

    def show_head(self) -> None:
        """Show the servers, and the sums of all nodes."""
        self.head.update(fleet_head(self._reader, self.size.width))

    def show_reading(self) -> None:
        """Show what has been read."""
        self.show_head()
        self._show_table()

    def action_sort(self) -> None:
        """Take the next order."""
        self._order = NODE_ORDERS[(NODE_ORDERS.index(self._order) + 1) % len(NODE_ORDERS)]
        self._show_table()

    def action_problems(self) -> None:
        """Show only nodes with a problem, or all."""
        self._only_problems = not self._only_problems
        self._show_table()

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
        self._text = event.value
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

    def _show_table(self) -> None:
        nodes = arranged_nodes(
            self._reader.nodes, self._order, self._text, only_problems=self._only_problems
        )
        empty = "no such node" if self._reader.nodes else "no nodes; mcr agent --nats adds one"
        self._table.show(nodes_table(nodes, empty))
        self._show_title()

    def _show_title(self) -> None:
        problems = ", only problems" if self._only_problems else ""
        text = f", with {self._text!r}" if self._text else ""
        self._title.update(Text(f"nodes {self._table.place}, by {self._order}{problems}{text}"))
