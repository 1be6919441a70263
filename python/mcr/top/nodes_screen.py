"""The screen with the table of all nodes of a fleet."""

from typing import ClassVar

from rich.text import Text
from textual.binding import BindingType
from textual.widgets import Input, Static

from .fleet_head import fleet_head
from .fleet_reader import FleetReader
from .node_table import NODE_ORDERS, NodeOrder, arranged_nodes, nodes_table
from .row_table import RowTable
from .table_screen import TABLE_KEYS, TableScreen


class NodesScreen(TableScreen):
    """All nodes, or those that a filter leaves."""

    BINDINGS: ClassVar[list[BindingType]] = TABLE_KEYS

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

    def _filter_by(self, text: str) -> None:
        self._text = text

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
